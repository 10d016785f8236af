"""gc, retention, verify and delete on the command line: what they print, and their exit codes."""

import json
import shutil
from datetime import timedelta
from uuid import UUID

import click
import pytest
import sqlalchemy as sa

from freshline.lineage.models import Deployment
from freshline.runs import interface
from freshline.runs.care import verifying
from freshline.runs.cli import EXIT_FAILED, cli
from freshline.runs.composition import Freshline
from freshline.storage import verification
from freshline.storage.errors import ArtifactError, Conflict, InvalidInput, NotFound, RunDeleted
from freshline.storage.ids import show_run_id
from freshline.storage.models import StoredObject
from freshline.storage.settings import Settings
from tests.unit.runs.conftest import make_world

DAY = timedelta(days=1)


@pytest.fixture
def database_url(request, tmp_path):
    shutil.copy(request.getfixturevalue("sqlite_template"), tmp_path / "freshline.db")
    return f"sqlite:///{tmp_path / 'freshline.db'}"


def said(monkeypatch, capsys, world, *arguments):
    """Call the command line on a store; return its exit code and what it printed."""
    made = Freshline(Settings(), world.database, world.objects)
    monkeypatch.setattr(interface, "shared_freshline", lambda: made)
    code = cli.main(list(arguments), standalone_mode=False)
    return code or 0, capsys.readouterr().out


@pytest.fixture
def call(world, monkeypatch, capsys):
    """Three versions of prices, a day apart, and what calls the command line."""
    world.runs = [world.run_through("refresh/prices", 1)]
    for content in (2, 3):
        world.pass_time(DAY)
        world.runs.append(world.run_through("refresh/prices", content))
    return lambda *arguments: said(monkeypatch, capsys, world, *arguments)


@pytest.fixture(scope="module")
def empty_world(request, tmp_path_factory):
    path = tmp_path_factory.mktemp("care") / "freshline.db"
    shutil.copy(request.getfixturevalue("sqlite_template"), path)
    made = make_world(f"sqlite:///{path}")
    yield made
    made.database.dispose()


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (("gc", "--grace", "7"), click.BadParameter, "'7' is not a duration; write it like 90m, 2h, 1d12h"),
        (("gc", "--grace", "5218w"), click.BadParameter, "longer than 100 years"),
        (("gc", "--grace", "-1d"), click.BadParameter, "'-1d' is not a duration"),
        (("verify",), InvalidInput, "say what to verify"),
        (("verify", "refresh/prices", "--all"), InvalidInput, "one of them"),
        (("verify", "--all", "--sample", "0%"), click.BadParameter, "'0%' is no share"),
        (("verify", "--all", "--sample", "200%"), click.BadParameter, "'200%' is no share"),
        (("verify", "--all", "--quick", "--whole"), InvalidInput, "leave one of them out"),
        (("verify", "refresh/prices", "--after", "x"), InvalidInput, "--after goes with --all"),
        (("verify", "refresh/prices@v9"), NotFound, "no version 'refresh/prices@v9'"),
        (("retention", "plan", "refresh/price"), NotFound, "Did you mean 'refresh/prices'"),
        (("delete",), InvalidInput, "say which runs"),
        (("delete", "--list", "--status", "failed"), InvalidInput, "say which runs"),
        (("delete", "run-x"), InvalidInput, "is not a run id"),
        (("delete", "--status", "running", "--yes"), InvalidInput, "no status that a run ends with"),
        (("delete", "--status", "failed"), InvalidInput, "Nobody is there to be asked: say --yes"),
        (("delete", "--status", "failed", "--cascade"), InvalidInput, "not with a deletion in bulk"),
        (("delete", "--deployment", "refresh/price", "--yes"), NotFound, "Did you mean 'refresh/prices'"),
        (("delete", show_run_id(UUID(int=1)), "--hard"), InvalidInput, "Nobody is there to be asked"),
        (("delete", show_run_id(UUID(int=1)), "--restore", "--hard"), InvalidInput, "leave --hard"),
    ],
)
def test_bad_call_is_one_clear_message(empty_world, monkeypatch, capsys, arguments, error, message):
    with pytest.raises(error) as caught:
        said(monkeypatch, capsys, empty_world, *arguments)
    assert message in str(getattr(caught.value, "message", caught.value))


def test_delete_restore_and_list(world, call):
    shown = show_run_id(world.runs[0].id)
    code, printed = call("delete", shown, "--reason", "a wrong feed", "--dry-run")
    assert (code, "1 runs would be deleted" in printed) == (0, True)
    assert call("delete", shown, "--reason", "a wrong feed")[0] == 0
    code, printed = call("delete", "--list")
    assert all(one in printed for one in (shown, "a wrong feed"))
    assert shown not in call("runs")[1]
    assert call("delete", "--restore", shown) == (0, f"{shown} is restored\n")
    assert shown in call("runs")[1]


def test_delete_of_what_others_rest_on_says_why(world, call):
    with pytest.raises(Conflict, match="it is the current version"):
        call("delete", show_run_id(world.runs[2].id))
    code, printed = call("delete", show_run_id(world.runs[2].id), "--dry-run", "--json")
    refused = json.loads(printed)["deletion"]["refused"]
    assert (code, refused[0]["reasons"]) == (EXIT_FAILED, ["it is the current version"])


def test_bulk_deletion_for_good(world, call):
    code, printed = call("delete", "--before", "2026-01-06", "--status", "completed", "--hard", "--yes", "--json")
    assert code == 0
    assert [one["run_id"] for one in json.loads(printed)["erased"]] == [str(world.runs[0].id)]
    code, printed = call("delete", "--deployment", "refresh/prices", "--yes")
    assert (code, "1 runs stay" in printed) == (EXIT_FAILED, True)


def test_bulk_deletion_for_good_passes_over_what_prefect_has_not_heard_of_and_says_how_to_go_on(world, call):
    heard, ended = (world.service.submit("refresh/prices") for _ in range(2))
    world.dispatch()
    world.service.cancel(heard.id)
    world.dispatch()
    world.service.cancel(ended.id)
    again = f"freshline delete --hard --yes {show_run_id(ended.id)}"
    with pytest.raises(Conflict, match=again):
        call("delete", "--status", "cancelled", "--hard", "--yes")
    with pytest.raises(RunDeleted, match="for good"):
        world.service.get(heard.id)
    world.dispatch()
    assert "1 of them for good" in call(*again.split()[1:])[1]


def test_retention_is_planned_and_applied(world, call):
    assert "Without a rule, so everything stays" in call("retention", "plan")[1]
    with world.database.transaction() as connection:
        connection.execute(sa.update(Deployment.__table__).values(retention={"keep_last": 2}))
    code, printed = call("retention", "plan")
    assert (code, "Would go: the data of 1 runs" in printed, "one of the last 2 versions" in printed) == (0, True, True)
    with pytest.raises(InvalidInput, match="Nobody is there to be asked"):
        call("retention", "apply")
    assert "let go the data of 1 runs" in call("retention", "apply", "--yes")[1]
    assert json.loads(call("retention", "apply", "refresh/prices", "--json")[1])["holdings"] == []
    assert "without data: retention removed it" in call("versions", "refresh/prices")[1]


def test_gc_says_what_it_would_do_and_does_it(world, call):
    call("delete", show_run_id(world.runs[0].id))
    world.pass_time(DAY)
    preview = json.loads(call("gc", "--grace", "1d", "--dry-run", "--json")[1])
    assert (preview["is_done"], preview["preview"]["erasable"]) == (False, 1)
    shown = call("gc", "--dry-run")[1]
    assert "deleted runs to erase" in shown
    assert "grace 1w" in shown
    assert "erased 1 deleted runs; deleted 0 objects" in call("gc", "--grace", "1d")[1]
    world.pass_time(DAY)
    assert json.loads(call("gc", "--grace", "1d", "--json")[1])["collected"]["objects"] == 1


def test_verify_has_exit_code_1_when_something_is_damaged(world, call):
    assert call("verify", "refresh/prices", "--whole")[0] == 0
    with world.database.read() as connection:
        names = connection.execute(sa.select(StoredObject.__table__.c.name)).scalars().all()
    world.objects.delete(names[0])
    code, printed = call("verify", "--all", "--sample", "100%")
    assert (code, "it is not there" in printed, "damaged: 1" in printed) == (EXIT_FAILED, True, True)
    found = json.loads(call("verify", "--all", "--json")[1])
    assert [one["object"] for one in found["damaged"]] == names[:1]
    assert found["damaged"][0]["reference"].startswith("refresh/prices@v")


@pytest.mark.parametrize("error", [KeyboardInterrupt(), ArtifactError("the connection broke")])
def test_verify_that_is_cut_short_says_what_it_found_and_where_to_go_on(world, call, monkeypatch, capsys, error):
    with world.database.read() as connection:
        names = sorted(connection.execute(sa.select(StoredObject.__table__.c.name)).scalars())
    monkeypatch.setattr(verifying, "_BATCH", 1)
    world.objects.delete(names[0])
    look = verification.damage_of

    def until_the_last(store, name, **how):
        if name == names[-1]:
            raise error
        return look(store, name, **how)

    monkeypatch.setattr(verification, "damage_of", until_the_last)
    with pytest.raises((ArtifactError, click.Abort)):
        call("verify", "--all", "--json")
    out, err = capsys.readouterr()
    assert out == ""
    assert "it is not there" in err
    assert f"--after {names[-2]}" in err
