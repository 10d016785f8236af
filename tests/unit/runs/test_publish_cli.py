"""`freshline publish`, from prefect.yaml to status, on both databases: answers, exit codes, one clear line."""

import json
import re
import shlex
import sys
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from freshline import runs, testing
from freshline.runs import cli, composition
from freshline.runs.register import Registrar
from freshline.storage import errors
from tests.fakes import FakeGateway
from tests.pages import code, read

CATALOGUE = """
resources:
  - {external: true, name: vendor, kind: dataset, freshness: {calendar: XNYS, sessions: 1, grace: 2h}}
  - {external: true, name: ratings, kind: signal}
"""

Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def call(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Call]:
    """Call the command line on a store with two external resources; return exit code, output and errors."""
    for name, value in {"HOME": tmp_path / "home", "DATABASE_URL": database_url}.items():
        monkeypatch.setenv(f"FRESHLINE_{name}", str(value))
    monkeypatch.setattr(composition, "_opened", {})
    monkeypatch.chdir(tmp_path)
    Path("prefect.yaml").write_text(CATALOGUE)
    freshline = composition.shared_freshline()
    registrar = Registrar(freshline, FakeGateway())
    registrar.register(registrar.load(Path("prefect.yaml")), {})
    pd.DataFrame({"close": [1.0, 2.0]}).to_parquet("friday.parquet")

    def call(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["freshline", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        said = capsys.readouterr()
        return int(ended.value.code or 0), said.out, said.err

    yield call
    freshline.database.dispose()


def test_publish_says_what_it_published_and_status_shows_it(call, tmp_path):
    code, out, err = call("publish", "vendor", "--uri", "friday.parquet", "--data-date", "2026-01-02")
    assert (code, err) == (0, "")
    assert out.startswith("refresh/vendor@v1: 2 rows, until 2026-01-02, digest ")
    assert f"(computed), referenced {(tmp_path / 'friday.parquet').as_uri()}, by run-" in out
    code, out, _ = call("status", "--json")
    shown = {row["key"]: row for row in json.loads(out)}
    assert shown["refresh/vendor"]["version"] == 1
    assert shown["refresh/vendor"]["data_end"] == "2026-01-02"
    # The clock is today's: the calendar has long asked for a later day.
    assert shown["refresh/vendor"]["freshness"] == "stale"
    assert shown["refresh/ratings"]["freshness"] == "not_initialized"


def test_publish_as_json_has_the_run(call):
    arguments = ("publish", "refresh/ratings", "--uri", "friday.parquet", "--data-date", "2026-01-02", "--copy")
    code, out, _ = call(*arguments, "--key", "friday", "--json")
    published = json.loads(out)
    assert (code, published["deployment"], published["version"]) == (0, "refresh/ratings", 1)
    assert published["run"]["trigger"] == "publish"
    assert published["run"]["outputs"]["kept"] == "copied"
    again = json.loads(call(*arguments, "--idempotency-key", "friday", "--json")[1])
    assert again["run"]["id"] == published["run"]["id"]


def test_publish_from_python_gives_a_publication(call):
    assert call("status")[0] == 0
    published = runs.publish("refresh/vendor", uri="friday.parquet", data_date=date(2026, 1, 2))
    assert isinstance(published, runs.Publication)
    assert runs.get(published.run.id).actor == "anonymous"


def test_stated_digest_is_shown_as_stated(call):
    code, out, _ = call("publish", "vendor", "--uri", "snowflake://db/t", "--digest", "x", "--data-date", "2026-01-02")
    assert code == 0
    assert "(stated), referenced snowflake://db/t" in out


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("vendr", "--uri", "friday.parquet"), 2, "refresh/ratings, refresh/vendor"),
        (("vendor", "--uri", "gone.parquet", "--data-date", "2026-01-02"), 2, "no file or folder at"),
        (("vendor", "--uri", "empty", "--data-date", "2026-01-02"), 2, "is an empty folder"),
        (("vendor", "--uri", "friday.parquet"), 2, "give the data date, or name the date column"),
        (("vendor", "--uri", "friday.parquet", "--data-date", "02.01.2026"), 2, "does not match the format"),
        (("vendor", "--uri", "friday.parquet", "--data-date", "2226-01-02"), 2, "lies in the future"),
        (("vendor", "--uri", "friday.parquet", "--date-column", "day"), 2, "'day'"),
        (("vendor", "--uri", "s3://me:pw@bucket/x", "--data-date", "2026-01-02"), 2, "holds a secret"),
        (("vendor", "--data-date", "2026-01-02"), 2, "Missing option '--uri'"),
    ],
)
def test_publish_of_what_cannot_be_used_exits_2_with_one_line(call, arguments, code, said):
    Path("empty").mkdir()
    exit_code, out, err = call("publish", *arguments)
    assert (exit_code, out) == (code, "")
    assert said in err
    assert "Traceback" not in err
    assert json.loads(call("runs", "--json")[1]) == []


def test_older_data_date_exits_1_and_allow_older_publishes_it(call):
    assert call("publish", "vendor", "--uri", "friday.parquet", "--data-date", "2026-01-05")[0] == 0
    older = ("publish", "vendor", "--uri", "friday.parquet", "--data-date", "2026-01-02")
    code, _, err = call(*older)
    assert code == 1
    assert "refresh/vendor@v1 speaks of 2026-01-05, this one of 2026-01-02 only" in err
    assert call(*older, "--allow-older")[0] == 0


def test_no_date_column_disregards_the_dates_in_the_table(call):
    pd.DataFrame({"date": pd.to_datetime(["2226-01-02"])}).to_parquet("forecast.parquet")
    arguments = ("publish", "vendor", "--uri", "forecast.parquet", "--data-date", "2026-01-02")
    assert "after the data date 2026-01-02" in call(*arguments)[2]
    assert call(*arguments, "--no-date-column")[0] == 0


def test_guide_to_publishing_runs_from_top_to_bottom(call, capsys):
    text = read("how-to/publish-external.md")
    (catalogue,) = code(text, "yaml", "prefect.yaml")
    Path("prefect.yaml").write_text(catalogue)
    registrar = Registrar(composition.shared_freshline(), FakeGateway())
    assert registrar.register(registrar.load(Path("prefect.yaml")), {}).retired == ("refresh/ratings",)
    Path("drop").mkdir()
    for number, name in enumerate(("2026-01-02", "2026-01-05", "latest")):
        pd.DataFrame({"close": [float(number)]}).to_parquet(f"drop/{name}.parquet")

    first, copied, repeated = ([line for line in block.splitlines() if line] for block in code(text, "sh"))
    for line in first:
        assert call(*shlex.split(line)[1:])[0] == 0
    (python,) = code(text, "python", "publish")
    exec(compile(python, "publish-external.md", "exec"), {})
    assert capsys.readouterr().out.startswith("refresh/vendor 2 ")
    for line in [*copied, *repeated, *repeated]:
        assert call(*shlex.split(line)[1:])[0] == 0
    (vendor,) = json.loads(call("status", "--json")[1])
    assert (vendor["version"], vendor["data_end"]) == (4, "2026-01-02")

    (flow,) = code(text, "python", "")
    made: dict[str, Any] = {"__name__": "shown"}
    exec(compile(flow, "publish-external.md", "exec"), made)
    result = testing.run(made["clean"], inputs={"vendor": pd.DataFrame({"close": [1.0, None]})})
    assert len(result.tables["clean"]) == 1


def test_guide_names_every_option_and_every_error_with_its_exit_code():
    text = read("how-to/publish-external.md")
    for option in ("--uri", "--data-date", "--date-column", "--no-date-column", "--digest", "--copy", "--allow-older"):
        assert option in text
    for error, exit_code in re.findall(r"\| `(\w+)` \| (\d) \|$", text, re.MULTILINE):
        is_usage = issubclass(getattr(errors, error), errors.InvalidInput | errors.NotFound)
        assert int(exit_code) == (cli.EXIT_USAGE if is_usage else cli.EXIT_FAILED)
