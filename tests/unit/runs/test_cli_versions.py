"""The command line for versions: aliases, labels and withdrawals, with exit codes and one clear line."""

import json
import shutil

import pytest

from tests.unit.runs.test_cli import freshline

PRICES = "refresh/prices"


@pytest.fixture
def database_url(request, tmp_path):
    shutil.copy(request.getfixturevalue("sqlite_template"), tmp_path / "freshline.db")
    return f"sqlite:///{tmp_path / 'freshline.db'}"


@pytest.fixture
def home(world, tmp_path):
    """A home whose store has two versions of prices."""
    world.run_through(PRICES, 1)
    world.run_through(PRICES, 2)
    return tmp_path


def said(home, *arguments, code=0):
    done = freshline(home, *arguments)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout if code == 0 else done.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("alias", "set", f"{PRICES}@v1", "v2"), 2, "'v2' cannot be an alias: it looks like the number"),
        (("alias", "set", f"{PRICES}@v9", "champion"), 2, "no version 'refresh/prices@v9'"),
        (("alias", "move", f"{PRICES}@v1", "champion"), 2, "known: none; `freshline alias set` makes one"),
        (("alias", "rm", f"{PRICES}@champion"), 2, "it has none"),
        (("alias", "rm", PRICES), 2, "names no alias; write it like training/alpha@champion"),
        (("alias", "list", "refresh/price"), 2, "Did you mean 'refresh/prices'"),
        (("label", f"{PRICES}@v1", "v1"), 2, "'v1' is no label"),
        (("label", PRICES, "v1.0.0"), 2, "say which version of refresh/prices to label"),
        (("withdraw", PRICES, "--reason", "bad"), 2, "refresh/prices is refresh/prices@v2 at this moment"),
        (("withdraw", f"{PRICES}@v1", "--reason", " "), 2, "say the reason"),
        (("withdraw", f"{PRICES}@v1"), 2, "Missing option '--reason'"),
        (("versions", f"{PRICES}@champion"), 2, "it has none"),
        (("lineage", f"{PRICES}@1"), 2, "is neither a number like v12"),
    ],
)
def test_bad_call_is_one_clear_message(home, arguments, code, message):
    assert message in said(home, *arguments, code=code)


def test_alias_is_set_moved_listed_and_removed(home):
    assert said(home, "alias", "set", f"{PRICES}@v1", "champion", "--reason", "first") == (
        "refresh/prices@champion is refresh/prices@v1\n"
    )
    refused = said(home, "alias", "set", f"{PRICES}@v2", "champion", code=1)
    assert "names v1 since" in refused
    assert "nothing was moved" in refused
    assert "names v1" in said(home, "alias", "move", f"{PRICES}@v2", "champion", "--expected", "2", code=1)[:200]
    assert "is refresh/prices@v2" in said(home, "alias", "move", f"{PRICES}@v2", "champion")
    (listed,) = json.loads(said(home, "alias", "list", PRICES, "--json"))
    assert (listed["name"], listed["number"]) == ("champion", 2)
    assert "named v2" in said(home, "alias", "rm", f"{PRICES}@champion")
    steps = json.loads(said(home, "alias", "list", f"{PRICES}@champion", "--json"))
    assert [(step["from_number"], step["to_number"]) for step in steps] == [(None, 1), (1, 2), (2, None)]
    assert steps[0]["reason"] == "first"


@pytest.mark.slow
def test_label_and_withdrawal_are_shown_with_the_version(home):
    assert said(home, "label", f"{PRICES}@v2", "v1.0.0") == "refresh/prices@v2 is refresh/prices@v1.0.0\n"
    assert "refresh/prices@v2 is withdrawn; refresh/prices@v1 is current." in said(
        home, "withdraw", f"{PRICES}@v1.0.0", "--reason", "wrong close"
    )
    shown = said(home, "versions", PRICES)
    assert "withdrawn: wrong close" in shown
    assert "v1.0.0" in shown
    one = json.loads(said(home, "versions", f"{PRICES}@v2", "--json"))
    assert [act["kind"] for act in one["acts"]] == ["labelled", "withdrawn"]
    assert "wrong close" in said(home, "versions", f"{PRICES}@v2")
    assert "refresh/prices@v2 is restored; refresh/prices@v2 is current." in said(
        home, "restore", f"{PRICES}@v2", "--reason", "it was right"
    )
    assert "was not withdrawn" in said(home, "restore", f"{PRICES}@v2", "--reason", "again")


def test_show_says_what_was_pinned_and_what_was_read(home, world):
    run = world.run_through("refresh/momentum")
    shown = said(home, "show", str(run.id))
    assert "as_pinned" in shown
    assert "refresh/prices" in shown
