"""The guides to reading and saving run from top to bottom, on a store that the environment names."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pandas as pd
import pytest
from click.testing import CliRunner

from freshline import testing
from freshline.lineage import interface
from freshline.runs.cli import cli
from freshline.runs.result import Result
from freshline.storage import forms
from freshline.storage.artifacts import ArtifactRecord
from freshline.storage.files import save_file
from freshline.storage.filesystem import ObjectStore
from freshline.storage.folders import save_folder
from freshline.storage.ids import show_run_id
from freshline.storage.parquet import write_table
from tests.factories import declared
from tests.pages import code, read
from tests.unit.runs.conftest import World, make_world

SQL, FILES = "how-to/query-with-sql.md", "how-to/save-files.md"


@pytest.fixture
def here(sqlite_template, tmp_path, monkeypatch) -> Iterator[World]:
    """An empty store with its objects on the disk, which the environment names."""
    home = tmp_path / "home"
    home.mkdir()
    (home / "freshline.db").write_bytes(sqlite_template.read_bytes())
    monkeypatch.setenv("FRESHLINE_HOME", str(home))
    for name in ("DATABASE_URL", "ARTIFACTS_URL"):
        monkeypatch.delenv(f"FRESHLINE_{name}", raising=False)
    monkeypatch.chdir(tmp_path)
    url = f"sqlite:///{home / 'freshline.db'}"
    world = make_world(url)
    world.objects = ObjectStore((home / "artifacts").as_uri())
    yield world
    if url in interface._opened:
        interface._opened.pop(url).dispose()
    world.database.dispose()


def publish(world: World, key: str, *artifacts: ArtifactRecord) -> str:
    run = world.service.submit(key)
    claim = world.start(run)
    world.port.complete(run.id, claim.run.fence, Result(artifacts=artifacts))
    world.gateway.end(claim.run.flow_run_id)
    return show_run_id(run.id)


def prices(days: int) -> pd.DataFrame:
    frame = pd.DataFrame(
        [(day, asset, close) for day in range(days) for asset, close in (("AAPL", 102.0), ("MSFT", 299.0))],
        columns=["day", "asset", "close"],
    )
    frame["close"] += 2 * frame["day"]
    return frame.assign(date=pd.Timestamp("2026-01-01") + pd.to_timedelta(frame.pop("day"), unit="D"))


def test_cookbook_runs_from_top_to_bottom(here):
    for days in (3, 4):
        publish(
            here,
            "refresh/prices",
            ArtifactRecord.of_table("prices", write_table(here.objects, prices(days), data_date="date")),
        )
        here.pass_time(timedelta(days=1))
    made = {"__name__": "shown"}
    for text in code(read(SQL), "python", "check"):
        exec(compile(text, SQL, "exec"), made)


def test_cookbook_runs_all_but_what_needs_s3_and_names_every_form():
    text = read(SQL)
    (untried,) = code(text, "python", "")
    assert "aws_region" in untried
    assert len(code(text, "python", "check")) >= 7
    assert set(re.findall(r'`"(\w+)"`', text)) >= set(forms.Form.__args__) - {"scan"}


def test_guide_to_files_runs_from_top_to_bottom(here, tmp_path, capsys):
    text = read(FILES)
    (flow,) = code(text, "python", "check")
    made: dict[str, object] = {"__name__": "shown"}
    exec(compile(flow, FILES, "exec"), made)
    left = testing.run(made["train"])
    assert left.folders == {"checkpoint": {"weights.bin": b"\x00\x01", "assets/words.txt": b"up\ndown\n"}}
    assert left.files == {
        "report.html": b"<h1>Fine</h1>", "weights": b"\x00\x01", "log": b"epoch 0\nepoch 1\nepoch 2\n"
    }  # fmt: skip
    made_again = {"report.html": "text/html", "log": "text/plain"}
    files = {name: save_file(here.objects, left.files[name], media_type=made_again.get(name)) for name in left.files}
    artifacts = [ArtifactRecord.of_file(name, stored, publish=name != "log") for name, stored in files.items()]
    artifacts.append(ArtifactRecord.of_file("checkpoint", save_folder(here.objects, tmp_path / "checkpoint")))
    alpha = replace(declared("training/alpha"), prefect_deployment_id=here.gateway.add_deployment("flow/alpha").id)
    here.graph.register(*here.graph.declared.values(), alpha)
    run = publish(here, "training/alpha", *artifacts)
    (outside,), (output,) = code(text, "python", "outside"), code(text, "text", "output")
    exec(compile(outside, FILES, "exec"), made)
    assert capsys.readouterr().out == output
    for call in code(text, "sh")[0].splitlines():
        words = [run if word == "run-0199b3c2-…" else word for word in shlex.split(call)]
        done = CliRunner().invoke(cli, words[1:], catch_exceptions=False)
        assert done.exit_code == 0, done.output
    assert Path("restored", "assets", "words.txt").read_text() == "up\ndown\n"
    assert Path("epochs.txt").read_bytes() == left.files["log"]
