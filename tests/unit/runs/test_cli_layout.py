"""How the command line prints: tables that fit, text that is shown as it is, colours, bars, and errors in one line."""

import io
import re
import sys

import click
import pytest
import sqlalchemy as sa
from rich.cells import cell_len

from freshline.runs import cli as command_line
from freshline.runs.cli import _COMMANDS, exit_code_of, main
from freshline.runs.cli.output import console, say, table
from freshline.runs.cli.progress import busy, progress, waiting
from freshline.runs.models import Run
from freshline.storage import errors
from freshline.storage.ids import new_id, show_run_id
from freshline.storage.literal import literal, one_line
from tests.pages import read

COLUMNS = ("run", "deployment", "status", "why")
ROWS = [
    (show_run_id(new_id()), "backtest/book", "completed", "the upstream refresh/prices is 東京 ready " * 3),
    (show_run_id(new_id()), "refresh/prices", "failed", None),
    (show_run_id(new_id()), "refresh/" + "x" * 50, "failed", "/a/path/" + "y" * 90),
]


class Terminal(io.StringIO):
    """A stream that is a terminal, as far as anybody can tell."""

    def isatty(self):
        return True


def printed(monkeypatch, capsys, width, *arguments, **options):
    monkeypatch.setenv("COLUMNS", str(width))
    console().print(table(*arguments, **options))
    return capsys.readouterr().out


@pytest.mark.parametrize("width", [30, 44, 60, 80, 100, 120, 200])
def test_table_fits_and_leaves_nothing_out(monkeypatch, capsys, width):
    out = printed(monkeypatch, capsys, width, "Runs", COLUMNS, ROWS)
    assert max(map(cell_len, out.splitlines())) <= width
    packed = "".join(re.split(r"[\s─·]+", out))
    for row in ROWS:
        for cell in row[:3]:
            # A folded table mixes the lines of its columns; rows that stand one by one do not.
            assert cell in packed or width >= 80
        assert row[0] in out or width < 44
    assert all(word in out for word in ("東京", "backtest/book", "completed"))


@pytest.mark.parametrize("width", [60, 200])
def test_title_is_not_folded_to_the_width_of_its_table(monkeypatch, capsys, width):
    run = show_run_id(new_id())
    assert run in printed(monkeypatch, capsys, width, run, ("fact", "value"), [("status", "failed")])


def test_columns_that_matter_least_are_left_out_and_named(monkeypatch, capsys):
    rows = [(show_run_id(new_id()), "backtest/book", "completed", "ready")]
    lesser = ("why", "status")
    whole = printed(monkeypatch, capsys, 100, "Runs", COLUMNS, rows, lesser=lesser)
    assert "no room for" not in whole
    assert "no room for: why\n" in printed(monkeypatch, capsys, 70, "Runs", COLUMNS, rows, lesser=lesser)
    least = printed(monkeypatch, capsys, 60, "Runs", COLUMNS, rows, lesser=lesser)
    assert "no room for: why, status" in least
    assert "completed" not in least
    # Where not even those that matter fit, nothing is left out.
    assert "status completed" in printed(monkeypatch, capsys, 50, "Runs", COLUMNS, rows, lesser=lesser)


def test_table_without_rows_says_so(monkeypatch, capsys):
    assert printed(monkeypatch, capsys, 60, "Runs", COLUMNS, []) == "Runs (none)\n"


def test_table_in_a_pipe_is_wide_and_has_no_colours(monkeypatch, capsys):
    monkeypatch.delenv("COLUMNS", raising=False)
    console().print(table("Runs", COLUMNS, ROWS[:2]))
    out = capsys.readouterr().out
    assert max(map(cell_len, out.splitlines())) > 100
    assert "\x1b" not in out


@pytest.mark.parametrize(("no_color", "has_colours"), [(None, True), ("1", False)])
def test_terminal_has_colours_unless_somebody_wants_none(monkeypatch, no_color, has_colours):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    if no_color is not None:
        monkeypatch.setenv("NO_COLOR", no_color)
    console().print(table("Deployments", ("deployment", "freshness"), [("refresh/prices", "stale")]))
    assert ("\x1b[31m" in terminal.getvalue()) is has_colours


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("[red]a[/] [link=http://x]b[/link] :smile:", "[red]a[/] [link=http://x]b[/link] :smile:"),
        ("a\x1b[31mb\x07\x7f\x9bc", "a\\x1b[31mb\\x07\\x7f\\x9bc"),
        ("to the \u202etfel\u202c", "to the \\u202etfel\\u202c"),
        ("half \ud800 a pair", "half \\ud800 a pair"),
        ("zero\u200bwidth, tab\t", "zero\\u200bwidth, tab\\t"),
        ("Zoë, 東京, क्\u200dष, 👩\u200d💻", "Zoë, 東京, क्\u200dष, 👩\u200d💻"),
    ],
)
def test_text_is_shown_as_it_is(monkeypatch, capsys, text, shown):
    monkeypatch.setenv("COLUMNS", "100")
    console().print(text)
    console().print(table(text, (text,), [(text,)]))
    say(text)
    say(text, err=True)
    said = capsys.readouterr()
    assert said.out.count(shown) == 5
    assert said.err == f"{shown}\n"


def test_lines_of_a_message_stay_lines_in_a_table_and_become_one_elsewhere():
    assert literal("one\r\ntwo\rthree", keep_lines=True) == "one\ntwo\\rthree"
    assert literal("one\ntwo") == "one\\ntwo"
    assert one_line("two runs stay:\n  run-1\n") == "two runs stay: run-1"


def test_bars_are_shown_in_a_terminal_only(monkeypatch, capsys):
    monkeypatch.setenv("TERM", "xterm")
    run = Run.__new__(Run)
    run.__dict__.update(status="running", progress=0.5)
    for terminal in (None, Terminal()):
        if terminal is not None:
            monkeypatch.setattr(sys, "stderr", terminal)
        with progress() as show:
            show("[red]verify\x1b[31m", 1, 2)
        with waiting("[red]book\x1b[31m") as moved:
            moved(run)
            moved(run)
        with busy("[red]deploy\x1b[31m"):
            pass
        if terminal is None:
            assert capsys.readouterr() == ("", "")
        else:
            assert "[red]book\\x1b[31m" in terminal.getvalue()
            assert "[red]deploy\\x1b[31m" in terminal.getvalue()
            assert "[red]verify\\x1b[31m" in terminal.getvalue()


@pytest.fixture
def call(monkeypatch, capsys):
    """Call the command line as it is installed, with a command that fails; return exit code, output and errors."""

    def call(*arguments, error=None):
        @click.command()
        def gc():
            if error is not None:
                raise error

        if error is not None:
            monkeypatch.setattr(command_line._Lazy, "get_command", lambda *_: gc)
        monkeypatch.setattr(sys, "argv", ["freshline", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr()
        return int(ended.value.code or 0), said.out, said.err

    return call


@pytest.mark.parametrize(
    ("error", "code", "told"),
    [
        (errors.InvalidInput("a bad\nvalue \x1b[31m"), 2, "Error: a bad value \\x1b[31m"),
        (errors.NotFound("run", "run-1"), 2, "Error: There is no run 'run-1'."),
        (errors.UpstreamNotReady("prices are stale"), 3, "Error: prices are stale"),
        (errors.Conflict("it has ended"), 1, "Error: it has ended"),
        (OSError(28, "No space left on device"), 1, "Error: [Errno 28] No space left on device"),
        (
            sa.exc.OperationalError("SELECT 's3cret'", {}, OSError("disk I/O error")),
            70,
            "Error: OperationalError: disk I/O error (`freshline",
        ),
        (ZeroDivisionError("division by zero"), 70, "Error: ZeroDivisionError: division by zero (`freshline --debug …"),
    ],
)
def test_error_is_one_line_with_its_exit_code_and_a_traceback_only_on_request(call, error, code, told):
    ended, out, err = call("gc", error=error)
    assert (ended, out, err.count("\n")) == (code, "", 1)
    assert err.startswith(told)
    ended, _, err = call("--debug", "gc", error=error)
    assert (ended, err.splitlines()[0]) == (code, "Traceback (most recent call last):")
    assert err.splitlines()[-1].startswith(told)


def test_interruption_says_so_and_has_a_code_of_its_own(call):
    code, out, err = call("gc", error=KeyboardInterrupt())
    assert (code, out, err.split()) == (130, "", ["interrupted"])


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("stauts",), "Error: No such command 'stauts'. Did you mean 'stats' or 'status'? See `freshline --help`.\n"),
        (("linage",), "Error: No such command 'linage'. Did you mean 'lineage'? See `freshline --help`.\n"),
        (("no\x1bsense",), "Error: No such command 'no\\x1bsense'. See `freshline --help`.\n"),
        (("runs", "--limit", "many"), "See `freshline runs --help`.\n"),
        (("alias", "set", "training/alpha"), "Error: Missing argument 'NAME'. See `freshline alias set --help`.\n"),
    ],
)
def test_call_that_is_not_understood_is_one_line_and_says_where_to_look(call, arguments, told):
    code, out, err = call(*arguments)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.endswith(told)


def test_command_line_alone_gives_an_overview_of_commands_that_there_are(call):
    code, out, err = call()
    assert (code, err) == (0, "")
    assert set(re.findall(r"freshline ([a-z]\w+)", out)) <= _COMMANDS.keys()
    assert max(map(len, out.splitlines())) <= 80


def test_character_that_a_terminal_has_not_is_written_out(monkeypatch):
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", stream)
    monkeypatch.setattr(sys, "argv", ["freshline", "--version"])
    with pytest.raises(SystemExit):
        main()
    console().print("Zoë")
    stream.flush()
    assert stream.buffer.getvalue().endswith(b"Zo\\xeb\n")


def test_errors_have_the_exit_codes_of_the_reference():
    said = {}
    for line in read("reference/errors.md").splitlines():
        if found := re.match(r"\| `(\w+)` \|.*\| (\d+) \|$", line):
            said[found[1]] = int(found[2])
    known = {
        name: item
        for name, item in vars(errors).items()
        if isinstance(item, type) and issubclass(item, errors.FreshlineError)
    }
    assert said == {name: exit_code_of(item.__new__(item)) for name, item in known.items()}
