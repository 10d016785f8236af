"""The chain on real prices: records, versions, pins, Parquet contents and staleness, not printed text."""

import json
import math
import re
import time
from collections import Counter
from datetime import UTC, date, datetime

import httpx
import numpy as np
import pandas as pd
import pytest

from freshline.flows.sources import sp500
from freshline.runs import contents, store
from freshline.runs.api.serving import Serving
from freshline.runs.demo import FIRST_MONTH_ENDS, SECOND_MONTH_ENDS
from freshline.runs.status import RunStatus
from freshline.storage.ids import show_run_id
from freshline.storage.parquet import to_pandas
from tests.browser import press, submit_form

WAIT_S = 180.0

pytestmark = [pytest.mark.stack, pytest.mark.timeout(900)]

CHAIN = ("refresh/prices", "refresh/momentum", "training/alpha", "inference/alpha", "optimize/book", "backtest/book")


def tables(main_job, report):
    """The published tables of a run, read from the object store."""
    objects = main_job.embedded.freshline.objects
    return {
        item.name: to_pandas(objects, item.stored_table())
        for item in report.artifacts
        if item.kind == "table" and item.publish
    }


def report(main_job, key, *, newest=False):
    """The first (or the newest) run of a deployment."""
    runs = [run for found, run in [*main_job.first, *main_job.second] if found == key]
    return main_job.embedded.queries.report(runs[-1 if newest else 0].id)


def test_backtest_before_anything_had_a_version_was_refused_and_recorded(main_job):
    assert (main_job.early.status, main_job.early.stop_reason) == ("refused", "upstream_not_ready")
    assert main_job.early.flow_run_id is None


def test_all_seven_run_types_completed(main_job):
    runs = main_job.first
    assert {run.status for _, run in runs} == {"completed"}
    assert Counter(key for key, _ in runs) == dict.fromkeys(
        (*CHAIN, "preview/momentum-study", "backtest/momentum-ls", "monitoring/alpha"), 1
    )
    assert {run.type for _, run in runs} == {
        "PipelineRun",
        "ExperimentRun",
        "TrainingRun",
        "InferenceRun",
        "PortfolioOptimizationRun",
        "BacktestRun",
        "MonitoringRun",
    }


def test_upstreams_ran_as_cascades_of_the_book_in_order(main_job):
    runs = {key: run for key, run in main_job.first if key in CHAIN}
    assert {run.trigger for key, run in runs.items() if key != "backtest/book"} == {"cascade"}
    assert {run.parent_id for key, run in runs.items() if key != "backtest/book"} == {runs["backtest/book"].id}
    ends = [runs[key].ended_at for key in CHAIN]
    assert ends == sorted(ends)


def test_closure_of_the_backtest_is_exactly_what_it_was_built_from(main_job):
    found = {(read.key, read.number) for read in main_job.book.inputs}
    assert found == {(key, 1) for key in CHAIN if key != "backtest/book"}


def test_pins_are_what_was_read(main_job):
    with main_job.embedded.freshline.database.read() as connection:
        for _, run in [*main_job.first, *main_job.second]:
            inputs = contents.inputs_of(connection, run.id)
            assert all(row.pinned for row in inputs), run.type
            assert all(row.read for row in inputs), run.type


def test_prices_are_the_source_up_to_the_data_date(main_job):
    (prices,) = tables(main_job, report(main_job, "refresh/prices")).values()
    expected = sp500(since=None, until=FIRST_MONTH_ENDS)
    pd.testing.assert_frame_equal(prices, expected, check_freq=False, check_index_type=False)


def test_incremental_refresh_adds_a_fragment_and_shares_the_first(main_job):
    before = report(main_job, "refresh/prices").artifacts[0].stored_table()
    after = main_job.prices.artifacts[0].stored_table()
    assert len(after.fragments) == len(before.fragments) + 1
    assert after.fragments[:-1] == before.fragments
    assert after.fragments[-1].rows == main_job.prices.metrics["rows_inserted"] == 19
    assert after.last_data_date == SECOND_MONTH_ENDS


def test_momentum_is_the_standardised_return_from_a_year_to_a_month_ago(main_job):
    (prices,) = tables(main_job, report(main_job, "refresh/prices")).values()
    (momentum,) = tables(main_job, report(main_job, "refresh/momentum")).values()
    day = prices.index.get_loc(momentum.index[1000])
    past = prices.iloc[day - 21] / prices.iloc[day - 252] - 1
    expected = (past - past.mean()) / past.std(ddof=0)
    np.testing.assert_allclose(momentum.iloc[1000].to_numpy(), expected.to_numpy(), rtol=1e-9)


def test_backtest_metrics_follow_from_its_stored_returns(main_job):
    book = main_job.book
    found = tables(main_job, book)
    returns = found["daily_returns"].iloc[:, 0]
    equity = found["equity_curve"]["equity"]  # 1 on the day before the first trade
    total = float((1 + returns).prod() - 1)
    assert book.metrics["total_return"] == pytest.approx(total, rel=1e-9)
    assert float(equity.iloc[-1]) == pytest.approx(1 + total, rel=1e-9)
    assert book.metrics["sharpe_ratio"] == pytest.approx(returns.mean() / returns.std() * math.sqrt(252), rel=1e-9)
    assert book.conventions["sharpe_ratio"]["periods_per_year"] == 252
    assert book.metrics["num_trades"] == len(found["trades"])
    assert {"equity_curve", "trades", "weights_history", "daily_returns"} <= found.keys()


def test_backtest_detail_has_its_own_columns(main_job):
    detail = main_job.book.detail
    assert detail["end_date"] == FIRST_MONTH_ENDS
    assert detail["start_date"] < date(2000, 1, 1)
    assert detail["num_trades"] == main_job.book.metrics["num_trades"]


def test_weights_obey_their_constraints_and_record_the_solver(main_job):
    optimize = report(main_job, "optimize/book")
    weights = tables(main_job, optimize)["weights"]
    assert (weights.to_numpy() >= -1e-8).all()
    np.testing.assert_allclose(weights.sum(axis=1), 1.0, atol=1e-6)
    assert optimize.detail["solver_status"]
    assert 0 <= optimize.metrics["turnover"] <= 2


def test_training_records_validation_and_reference_and_stores_no_pickle(main_job):
    training = report(main_job, "training/alpha")
    assert {"train_ic", "val_ic", "train_rmse", "val_rmse", "num_features"} <= training.metrics.keys()
    kinds = {item.name: item.media_type for item in training.artifacts}
    assert any(item.kind == "file" for item in training.artifacts), kinds
    (model,) = (item for item in training.artifacts if item.kind == "file" and "model" in item.name)
    content = main_job.embedded.freshline.objects.read_bytes(model.stored_file().name)
    assert content.startswith(b"PK"), "skops writes a zip of JSON and arrays"


def test_inference_names_the_model_version_that_predicted(main_job):
    inference = report(main_job, "inference/alpha")
    model = next(read for read in inference.inputs if read.key == "training/alpha")
    assert inference.detail["model_version_id"] == model.version_id
    assert inference.metrics["num_predictions"] > 5000


def test_monitoring_has_drift_with_a_calibrated_threshold(main_job):
    monitoring = report(main_job, "monitoring/alpha")
    assert {"psi", "ks_statistic", "drift_score"} <= monitoring.metrics.keys()
    assert monitoring.detail["alerts"] is not None


def test_new_prices_made_everything_downstream_stale_with_the_run_that_brought_it(main_job):
    stale = {explanation.key: explanation for explanation in main_job.became_stale}
    assert stale.keys() == {key for key, _ in main_job.first} - {"refresh/prices"}
    origin = main_job.prices.run.id
    for explanation in stale.values():
        deepest = [reason for _, reason in explanation.lines() if not reason.because]
        assert deepest
        assert {reason.origin_run_id for reason in deepest} == {origin}, explanation.key


def test_second_pass_ran_what_was_stale_upstream_of_the_book_and_nothing_else(main_job):
    assert Counter(key for key, _ in main_job.second) == dict.fromkeys(CHAIN, 1)
    assert {run.status for _, run in main_job.second} == {"completed"}
    assert {(read.key, read.number) for read in main_job.book_again.inputs} == {
        (key, 2) for key in CHAIN if key != "backtest/book"
    }


def test_after_the_second_pass_the_book_is_ready_and_what_did_not_run_is_stale(main_job):
    freshness = {row.key: row.freshness for row in main_job.embedded.queries.status()}
    assert {key for key, value in freshness.items() if value == "ready"} == set(CHAIN)
    assert freshness["preview/momentum-study"] == "stale"


def test_events_of_every_run_are_numbered_without_gaps(main_job):
    for _, run in [*main_job.first, *main_job.second]:
        numbers = [seq for seq, _ in main_job.embedded.queries.events(run.id)]
        assert numbers == list(range(1, len(numbers) + 1))


def test_prefect_has_exactly_one_flow_run_per_run(main_job):
    runs = [run for _, run in [*main_job.first, *main_job.second]]
    found = main_job.embedded.gateway.read_flow_runs([run.flow_run_id for run in runs])
    assert len(found) == len(runs)
    assert {flow_run.state_name for flow_run in found.values()} == {"Completed"}


def test_runs_left_what_they_read_measured_and_wrote_on_their_flow_runs(main_job):
    runs = {run.flow_run_id: (key, run) for key, run in main_job.first}
    wanted = {
        (flow_run_id, f"freshline-{what}-{key.replace('/', '-')}")
        for flow_run_id, (key, _) in runs.items()
        for what in ("inputs", "metrics", "outputs", "run")
        if (what, key) != ("inputs", "refresh/prices")  # a source reads nothing
    }
    deadline = time.monotonic() + WAIT_S
    found = {}
    while not wanted <= found.keys() and time.monotonic() < deadline:
        there = main_job.embedded.gateway.read_artifacts(runs, prefix="freshline-")
        found = {(one.flow_run_id, one.key): one.data for one in there}
        time.sleep(0.25)
    assert wanted - found.keys() == set()
    assert len(found) == len(there), "one was written twice"
    book = main_job.book.run
    read = found[book.flow_run_id, "freshline-inputs-backtest-book"]
    assert re.search(r"^\| \w+ \| optimize/book \| v1 \| [\d-]+ \| yes \| yes \|$", read, re.MULTILINE)
    measured = found[book.flow_run_id, "freshline-metrics-backtest-book"]
    assert f"| total_return | {main_job.book.metrics['total_return']:.6g} | fraction |" in measured
    assert "| equity_curve | table | " in found[book.flow_run_id, "freshline-outputs-backtest-book"]
    assert f"](http://127.0.0.1:4280/runs/run-{book.id})" in found[book.flow_run_id, "freshline-run-backtest-book"]


@pytest.mark.browser
def test_artifacts_of_a_run_are_shown_in_prefects_own_page(main_job, browser_page):
    flow_run_id = main_job.book.run.flow_run_id
    browser_page.goto(f"{main_job.embedded.stack.ui_url}/v2/runs/flow-run/{flow_run_id}?tab=Artifacts")
    for what in ("inputs", "metrics", "outputs", "run"):
        browser_page.get_by_text(f"freshline-{what}-backtest-book", exact=True).wait_for()


# Somebody clicks Run in the Prefect UI: exactly one run, of the right type, with its inputs, or the reason why not.


def click(page, main_job, key, entry):
    """Open the deployment's page in Prefect, press Run and choose an entry of its menu."""
    stack = main_job.embedded
    deployment = stack.gateway.read_deployment(key)  # the shipped catalogue names them alike
    page.goto(f"{stack.stack.ui_url}/v2/deployments/deployment/{deployment.id}")
    page.get_by_role("button", name="Run", exact=True).click()
    page.get_by_role("menuitem", name=entry).click()


def next_run(main_job, key, known):
    """The run that this click brings, when it has ended."""
    deadline = time.monotonic() + WAIT_S
    while time.monotonic() < deadline:
        new = [run for _, run in main_job.embedded.queries.runs(deployment=key) if run.id not in known]
        if new and RunStatus(new[0].status).is_terminal:
            assert len(new) == 1
            return main_job.embedded.queries.report(new[0].id)
        time.sleep(0.25)
    raise AssertionError(f"no run of {key} has ended within {WAIT_S:.0f} s; there are {[run.status for run in new]}")


def known_runs(main_job, key):
    return {run.id for _, run in main_job.embedded.queries.runs(deployment=key)}


@pytest.mark.browser
def test_quick_run_on_ready_inputs_gives_one_manual_run_with_its_inputs(main_job, browser_page):
    key = "monitoring/alpha"
    before = known_runs(main_job, key)
    press(browser_page, lambda: click(browser_page, main_job, key, "Quick run"))
    report = next_run(main_job, key, before)
    assert (report.run.type, report.run.status, report.run.trigger) == ("MonitoringRun", "completed", "manual")
    assert {read.key for read in report.inputs if read.depth == 1} == {
        "inference/alpha",
        "training/alpha",
        "refresh/momentum",
    }
    with main_job.embedded.freshline.database.read() as connection:
        assert store.newest_run_of_flow_run(connection, report.run.flow_run_id).id == report.run.id


@pytest.mark.browser
def test_custom_run_has_our_parameters_in_its_form(main_job, browser_page):
    key = "refresh/momentum"
    before = known_runs(main_job, key)
    click(browser_page, main_job, key, "Custom run")
    for shown in ("update_mode (Optional)", "if_ready (Optional)", "on_stale (Optional)", "data_as_of (Optional)"):
        browser_page.get_by_text(shown).wait_for()
    browser_page.get_by_text("A data date: nothing later is read.").wait_for()
    submit_form(browser_page)
    report = next_run(main_job, key, before)
    assert (report.run.status, report.run.trigger) == ("completed", "manual")
    assert report.run.request == {"update_mode": "incremental", "if_ready": "run"}
    assert report.version == 3
    # The same content as before: everything downstream stays as it is.
    assert main_job.embedded.queries.explain("backtest/book").freshness == "ready"


# The server that `freshline up` has beside the stack.


@pytest.fixture
def served(main_job):
    with Serving(main_job.embedded.freshline, port=0) as serving:
        yield serving


@pytest.mark.browser
def test_page_lists_the_runs_of_the_job_and_a_new_one_is_followed_live(main_job, served, browser_page):
    browser_page.goto(f"{served.url}/runs#token={served.access.token}")
    for _, run in [*main_job.first, *main_job.second]:
        browser_page.locator(f"tr[data-id='{show_run_id(run.id)}']").wait_for(state="attached")
    headers = {"Authorization": f"Bearer {served.access.token}"}
    with httpx.Client(base_url=f"{served.url}/api/v1", headers=headers, timeout=WAIT_S, trust_env=False) as client:
        asked = {"deployment": "refresh/prices", "if_ready": "run"}
        made = client.post("/runs", json=asked).raise_for_status().json()
        browser_page.goto(f"{served.url}/runs/{made['id']}")
        found = list(streamed(client, made["id"]))
    assert [message["seq"] for message, _ in found] == list(range(1, len(found) + 1))
    assert found[-1][0]["kind"] == "run_completed"
    assert found[0][1] < datetime.fromisoformat(found[-1][0]["at"]), "it was told when all was over"
    # The page was there before the run had ended, and nobody has loaded it again.
    browser_page.locator(".title .badge", has_text="completed").wait_for()
    browser_page.locator(".log li", has_text="Started").first.wait_for()


def streamed(client, run_id):
    """The messages of a run's stream until it ends, each with when it came."""
    with client.stream("GET", f"/runs/{run_id}/stream") as answer:
        for line in answer.iter_lines():
            if line.startswith("data: "):
                yield json.loads(line.removeprefix("data: ")), datetime.now(UTC)
