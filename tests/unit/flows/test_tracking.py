"""`track`: the signature that people see, what is refused, and what a start of the body does, step by step."""

import asyncio
import inspect
from datetime import date, timedelta

import pandas as pd
import pytest
from prefect import flow
from prefect.exceptions import Pause
from prefect.utilities.callables import parameter_schema

from freshline import testing
from freshline.flows import RunContext, track, tracking
from freshline.flows.lease import RunCancelled
from freshline.storage.errors import Fenced, FreshlineError, InvalidInput, NotFound
from tests.factories import START
from tests.unit.flows.ports import Port, Unwound, started


@track.training
def train(run: RunContext, lookback_d: int = 252, *, penalty: float = 1.0) -> dict[str, float]:
    """Fit a model.

    Args:
        lookback_d: days that a window has.
        penalty: of the ridge.
    """
    return {"val_ic": lookback_d * penalty}


def test_signature_has_the_body_s_parameters_and_ours_but_not_run():
    parameters = inspect.signature(train).parameters
    assert list(parameters) == ["lookback_d", "penalty", "update_mode", "if_ready", "on_stale", "data_as_of"]
    assert parameters["data_as_of"].annotation == date | None


def test_prefect_s_form_has_types_defaults_and_descriptions():
    shown = parameter_schema(train).properties
    assert shown["lookback_d"]["description"] == "days that a window has."
    assert shown["lookback_d"]["default"] == 252
    assert shown["update_mode"]["enum"] == ["incremental", "full"]
    assert "later is read" in shown["data_as_of"]["description"]


def test_function_without_a_docstring_gets_descriptions_of_ours():
    @track.refresh
    def bare(run: RunContext): ...

    assert "later is read" in parameter_schema(bare).properties["data_as_of"]["description"]


def test_tracked_function_is_a_flow_like_any_other():
    made = flow(train)
    assert made.fn.__freshline_kind__ == "training"
    assert made.name == "train"


def test_function_without_run_is_refused():
    with pytest.raises(TypeError, match="its first parameter is `run: RunContext`"):

        @track.refresh
        def lost(days: int): ...


def test_parameter_that_clashes_is_refused_with_the_way_out():
    with pytest.raises(TypeError, match="rename=") as refusal:

        @track.refresh
        def clash(run: RunContext, data_as_of: str): ...

    assert "'data_as_of' clashes" in str(refusal.value)


def test_renamed_parameter_leaves_the_name_to_the_body():
    @track.refresh(rename={"data_as_of": "freshline_as_of"})
    def renamed(run: RunContext, data_as_of: str = "x"): ...

    assert "freshline_as_of" in inspect.signature(renamed).parameters
    assert renamed.__freshline_names__["freshline_as_of"] == "data_as_of"


def test_call_outside_of_a_flow_run_says_what_to_do(monkeypatch):
    monkeypatch.setattr(tracking, "flow_port", lambda: (None, None))
    with pytest.raises(FreshlineError, match=r"freshline\.testing\.run"):
        train(lookback_d=3)


def test_body_that_returns_is_completed_with_its_metrics(monkeypatch):
    with started(monkeypatch, Port(), train) as port:
        assert train(lookback_d=3, penalty=2.0) == {"val_ic": 6.0}
    assert port.calls == ["claim", "complete"]
    assert port.result.metrics == {"val_ic": 6.0}


def test_async_body_is_awaited_and_completed(monkeypatch):
    @track.training
    async def fit(run: RunContext) -> dict[str, float]:
        await asyncio.sleep(0)
        return {"val_ic": 1.0}

    with started(monkeypatch, Port(), fit) as port:
        assert asyncio.run(fit()) == {"val_ic": 1.0}
    assert port.calls == ["claim", "complete"]


@pytest.mark.parametrize(
    ("retries", "run_count", "expected"), [(0, 1, False), (1, 1, True), (1, 2, False), (2, 2, True)]
)
def test_body_that_raises_is_failed_and_left_to_prefect_while_it_retries(monkeypatch, retries, run_count, expected):
    @track.training
    def unlucky(run: RunContext):
        raise ValueError("no luck")

    with (
        started(monkeypatch, Port(), unlucky, retries=retries, run_count=run_count) as port,
        pytest.raises(ValueError, match="no luck"),
    ):
        unlucky()
    assert port.calls == ["claim", "fail ValueError"]
    assert port.will_retry is expected
    assert (port.resume_due_at is not None) is expected


def test_next_attempt_is_due_by_the_store_s_clock_and_not_by_this_machine_s(monkeypatch):
    @track.training
    def unlucky(run: RunContext):
        raise ValueError("no luck")

    with (
        started(monkeypatch, Port(), unlucky, retries=1, retry_delay_s=600.0) as port,
        pytest.raises(ValueError, match="no luck"),
    ):
        unlucky()
    due_in = port.resume_due_at - START
    assert timedelta(seconds=600) < due_in < timedelta(seconds=660)


def test_result_that_cannot_be_published_fails_the_run(monkeypatch):
    with started(monkeypatch, Port(fails_on_complete=Fenced("held by another")), train) as port, pytest.raises(Fenced):
        train()
    assert port.calls == ["claim", "complete", "fail Fenced"]


def test_body_that_returns_what_is_no_metrics_fails_the_run(monkeypatch):
    @track.training
    def chatty(run: RunContext):
        return "done"

    with started(monkeypatch, Port(), chatty) as port, pytest.raises(InvalidInput, match="this one returned str"):
        chatty()
    assert port.calls == ["claim", "fail InvalidInput"]


def test_cancelled_body_is_acknowledged_and_cancelled_in_prefect(monkeypatch):
    @track.training
    def cancelled(run: RunContext):
        try:
            raise RunCancelled
        except Exception:
            raise AssertionError("a body's own handler must not see it") from None

    with started(monkeypatch, Port(), cancelled) as port:
        assert cancelled().is_cancelled()
    assert port.calls == ["claim", "cancel"]


@pytest.mark.parametrize(
    ("status", "name", "kind", "why"),
    [
        ("refused", "Refused", "CANCELLED", "refresh/prices is stale"),
        ("skipped", "Skipped", "COMPLETED", "refresh/prices is stale"),
        ("cancelled", "Cancelled", "CANCELLED", "was cancelled"),
    ],
)
def test_run_that_may_not_start_gives_prefect_a_state_that_says_why(monkeypatch, status, name, kind, why):
    with started(monkeypatch, Port(status=status), train) as port:
        state = train()
    assert (state.name, state.type.value) == (name, kind)
    assert why in state.message
    assert port.calls == ["claim"]


def test_run_that_waits_is_suspended(monkeypatch):
    with started(monkeypatch, Port(status="waiting"), train) as port, pytest.raises(Unwound):
        train()
    assert port.calls == ["claim", "suspend"]


# The body alone, without any server.


@track.backtest
def everything(run: RunContext, factor: int = 2) -> dict[str, float]:
    table = run.read("signal", columns=["date", "x"])
    for step in run.progress(range(3)):
        run.log(loss=3.0 - step)
    run.log(step=10, late=float("nan"))
    run.write("scaled", table.assign(x=table["x"] * factor))
    run.write("scratch", pd.DataFrame({"y": [1]}), publish=False)
    run.save("report", b"<p>hello</p>", media_type="text/html")
    run.note("checked", rows=len(table))
    run.describe(num_trades=7)
    return {"sharpe_ratio": 1.5}


def signal(rows=4):
    return pd.DataFrame({"date": pd.date_range("2022-01-03", periods=rows), "x": range(rows), "z": 0.5})


def test_testing_run_returns_metrics_tables_files_and_events():
    left = testing.run(everything, inputs={"signal": signal()}, parameters={"factor": 3})
    assert left.metrics["sharpe_ratio"] == 1.5
    assert left.metrics["loss"] == 1.0
    assert left.tables["scaled"]["x"].tolist() == [0, 3, 6, 9]
    assert left.files == {"report": b"<p>hello</p>"}
    assert [event.kind for event in left.events][-1] == "author_event"
    series = left.tables["metrics"]
    assert series.loc[series["name"] == "loss", "value"].tolist() == [3.0, 2.0, 1.0]
    assert series.loc[series["name"] == "loss", "step"].tolist() == [0, 1, 2]
    assert left.result.detail == {"num_trades": 7, "start_date": date(2022, 1, 3), "end_date": date(2022, 1, 6)}


def test_testing_run_cuts_inputs_at_the_data_date():
    left = testing.run(everything, inputs={"signal": signal()}, data_as_of=date(2022, 1, 4))
    assert left.tables["scaled"]["x"].tolist() == [0, 2]


def test_only_what_is_published_counts_for_the_version():
    from freshline.runs.result import output_digest

    one = testing.run(everything, inputs={"signal": signal()}).result.artifacts
    published = [item for item in one if item.publish]
    assert {item.name for item in published} == {"scaled", "report"}
    assert output_digest(one) == output_digest(published)


@pytest.mark.parametrize("form", ["pandas", "arrow", "polars", "scan"])
def test_read_gives_the_form_that_was_asked_for(form):
    rows = []

    @track.refresh
    def reading(run: RunContext):
        table = run.read("signal", as_=form)
        rows.append(table.count_rows() if form == "scan" else len(table))

    testing.run(reading, inputs={"signal": signal()})
    assert rows == [4]


def test_append_continues_the_current_version():
    @track.refresh
    def grow(run: RunContext):
        assert run.current("data").rows == 4
        run.write("data", signal(1).assign(date=pd.Timestamp("2022-02-01")), mode="append")

    left = testing.run(grow, current={"data": signal()})
    assert len(left.tables["data"]) == 5
    assert left.result.base_version_id is not None


def test_upsert_replaces_rows_of_the_current_version_by_key():
    @track.refresh
    def revise(run: RunContext):
        new = pd.DataFrame({"n": [2, 3], "x": [20.0, 30.0], "seen": [True, True]})
        run.write("data", new, mode="upsert", key=iter(["n"]))

    left = testing.run(revise, current={"data": pd.DataFrame({"n": [1, 2], "x": [1.0, 2.0]})})
    assert left.tables["data"]["x"].tolist() == [1.0, 20.0, 30.0]
    assert left.tables["data"]["seen"].tolist() == [None, True, True]
    assert (left.result.base_version_id is not None, left.result.appends) == (True, True)


def test_delete_writes_the_current_version_without_the_rows():
    @track.refresh
    def clean(run: RunContext):
        run.delete("data", where=[("x", ">", 1)])

    left = testing.run(clean, current={"data": pd.DataFrame({"x": [1.0, 2.0, None]})})
    assert left.tables["data"]["x"].tolist()[:1] == [1.0]
    assert len(left.tables["data"]) == 2
    assert (left.result.base_version_id is not None, left.result.appends) == (True, True)


SCHEMA = {"data": {"columns": {"n": "int64"}, "extra": "refuse"}}


def test_table_that_is_not_as_the_deployment_declares_fails_its_run(monkeypatch):
    @track.training
    def writes(run: RunContext):
        run.write("data", pd.DataFrame({"n": [1.5], "more": [1]}))

    declaring = Port(declaration={"schema": SCHEMA})
    with (
        started(monkeypatch, declaring, writes) as port,
        pytest.raises(InvalidInput, match="'n' is float64 instead of"),
    ):
        writes()
    assert port.calls == ["claim", "fail InvalidInput"]


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda run: run.write("other", signal()), "declares 'data', which was not written; written: 'other'"),
        (lambda run: run.write("data", pd.DataFrame({"n": [1]}), publish=False), None),
        (lambda run: run.save("data", b"x"), None),
        (lambda run: run.write("data", pd.DataFrame({"n": [1]})), None),
    ],
)
def test_result_without_the_declared_table_is_refused_if_it_has_others(act, message):
    if message is None:
        testing.run(bad_body(act), schema=SCHEMA)
    else:
        with pytest.raises(InvalidInput, match=message):
            testing.run(bad_body(act), schema=SCHEMA)


def test_delete_from_a_table_that_is_not_as_declared_any_more_is_refused():
    act = bad_body(lambda run: run.delete("data", where=[("n", ">", 1)]))
    with pytest.raises(InvalidInput, match="undeclared 'old'"):
        testing.run(act, schema=SCHEMA, current={"data": pd.DataFrame({"n": [1, 2], "old": [1.0, 2.0]})})


def bad_body(act):
    @track.refresh
    def body(run: RunContext):
        act(run)

    return body


@pytest.mark.parametrize(
    ("act", "error", "message"),
    [
        (lambda run: run.read("signals"), NotFound, "Did you mean 'signal'"),
        (lambda run: run.read("signal", table="nothing"), NotFound, "nothing"),
        (lambda run: run.read("signal", columns=["nope"]), NotFound, "nope"),
        (lambda run: run.read("signal", as_="excel"), InvalidInput, "pandas, arrow, polars, batches or scan"),
        (lambda run: run.open("signal", "model"), NotFound, "model"),
        (lambda run: run.callable("source"), NotFound, "source"),
        (lambda run: run.log(loss="low"), InvalidInput, "loss='low' is no number"),
        (lambda run: run.write("", signal()), InvalidInput, "1 to 250 printable"),
        (lambda run: run.write("a\nb", signal()), InvalidInput, "1 to 250 printable"),
        (lambda run: (run.write("a", signal()), run.write("a", signal())), InvalidInput, "already"),
        (lambda run: run.write("a", 17), InvalidInput, "int"),
        (lambda run: run.delete("a", where=[("x", "==", 1)]), InvalidInput, "nothing to delete from"),
        (lambda run: run.write("a", signal(), mode="replace"), InvalidInput, "overwrite, append, upsert"),
        (lambda run: run.write("a", signal(), key=["date"]), InvalidInput, "key= is for mode='upsert'"),
        (lambda run: run.write("a", signal(), mode="upsert"), InvalidInput, "say key="),
        (lambda run: run.write("a", signal(), mode="upsert", key="date"), InvalidInput, "names of the columns"),
    ],
)
def test_bad_use_of_the_context_is_one_clear_error(act, error, message):
    with pytest.raises(error, match=message):
        testing.run(bad_body(act), inputs={"signal": signal()})


def test_testing_run_of_an_untracked_function_is_refused():
    with pytest.raises(InvalidInput, match="not tracked"):
        testing.run(lambda run: None)


def test_body_that_is_suspended_pauses_its_run(monkeypatch):
    @track.training
    def asks(run: RunContext):
        raise Pause

    with started(monkeypatch, Port(), asks) as port, pytest.raises(Pause):
        asks()
    assert port.calls == ["claim", "pause"]


def test_store_that_is_away_for_a_moment_does_not_end_a_body(monkeypatch):
    @track.training
    def noting(run: RunContext):
        run.note("half way")
        return {"val_ic": 1.0}

    with started(monkeypatch, Port(), noting) as port:
        assert noting() == {"val_ic": 1.0}
    assert port.calls == ["claim", "record", "complete"]
