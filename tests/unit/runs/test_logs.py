"""Structured logs: the same fields in both formats, one line an event, and nothing secret."""

import io
import json
import logging
import threading
from types import SimpleNamespace

import pytest

from freshline.runs import logs
from freshline.runs.background import Background
from freshline.storage.errors import InvalidInput
from freshline.storage.ids import new_id, show_run_id
from freshline.storage.settings import load_settings

LOGGER = logging.getLogger("freshline.runs.somewhere")


@pytest.fixture(autouse=True)
def _logging_as_before():
    logger = logging.getLogger("freshline")
    before = (list(logger.handlers), logger.level, logger.propagate)
    yield
    logger.handlers, logger.propagate = list(before[0]), before[2]
    logger.setLevel(before[1])


def a_run(**values):
    given = {"id": new_id(), "deployment_id": new_id(), "status": "failed", "stop_reason": "lease_expired"}
    return SimpleNamespace(**given | values)


def lines(log_format, act):
    stream = io.StringIO()
    logs.configure(log_format, stream=stream)
    act()
    return stream.getvalue().splitlines()


def test_format_unknown_is_refused_with_the_variable(monkeypatch):
    monkeypatch.setenv("FRESHLINE_LOG_FORMAT", "xml")
    with pytest.raises(InvalidInput, match="FRESHLINE_LOG_FORMAT='xml'"):
        load_settings()


def test_run_event_as_json_has_every_field():
    run = a_run()
    (line,) = lines(
        "json", lambda: logs.run_event(LOGGER, "it is gone", run=run, actor="reconciler", deployment="refresh/prices")
    )
    found = json.loads(line)
    assert found.pop("at").endswith("+00:00")
    assert found == {
        "level": "INFO",
        "module": "runs.somewhere",
        "message": "it is gone",
        "actor": "reconciler",
        "run_id": show_run_id(run.id),
        "deployment": "refresh/prices",
        "status": "failed",
        "stop_reason": "lease_expired",
    }
    assert set(logs.FIELDS) < set(found)


def test_run_event_as_text_is_one_line_and_leaves_out_what_is_not_known():
    run = a_run(status="running", stop_reason=None)
    (line,) = lines("text", lambda: logs.run_event(LOGGER, "claimed\nagain", run=run, actor="worker"))
    assert line.endswith(
        rf"INFO    runs.somewhere: claimed\nagain actor=worker run_id={show_run_id(run.id)} "
        f"deployment={run.deployment_id} status=running"
    )


def test_line_without_a_run_has_time_level_module_and_message():
    (line,) = lines("json", lambda: LOGGER.warning("%d of %s", 2, "refresh/prices"))
    assert set(json.loads(line)) == {"at", "level", "module", "message"}
    assert json.loads(line)["message"] == "2 of refresh/prices"


def test_event_below_the_level_costs_no_look_at_the_run():
    logs.configure(stream=io.StringIO())
    logs.run_event(LOGGER, "quiet", run=None, actor="worker", level=logging.DEBUG)


def test_message_with_signs_of_formatting_is_data():
    (line,) = lines("json", lambda: logs.run_event(LOGGER, "100 %s done", run=a_run(), actor="worker"))
    assert json.loads(line)["message"] == "100 %s done"


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        ("cannot open postgresql+psycopg://me:hun%40ter2@db:5432/x", "hun%40ter2"),
        ("cannot open postgresql://me:p@ss:w/rd@db/x", "p@ss:w/rd"),
        ("redis://:hunter2@db", "hunter2"),
        ("connection failed: password=hunter2 host=db", "hunter2"),
        ('{"password": "hunter2 and more"}', "hunter2 and more"),
        ("AWS_SECRET_ACCESS_KEY=hunter2", "hunter2"),
        ("api-key: hunter2", "hunter2"),
        ("Authorization: Bearer abcdef123456", "abcdef123456"),
        ("https://s3/x?X-Amz-Signature=0123abcd&x=1", "0123abcd"),
    ],
)
@pytest.mark.parametrize("log_format", ["text", "json"])
def test_secrets_are_blotted_out_of_messages_and_tracebacks(text, secret, log_format):
    def act():
        LOGGER.error("it said: %s", text)
        try:
            raise ValueError(text)
        except ValueError:
            LOGGER.exception("it broke")

    logged = "\n".join(lines(log_format, act))
    assert secret not in logged
    assert logged.count("***") >= 2
    assert "ValueError" in logged


@pytest.mark.parametrize(
    "text",
    [
        "the idempotency key 'nightly' came with another request before",
        "refresh/prices is stale: see http://127.0.0.1:4200/api",
        "run-0199 token",
        "at 12:30:01 a@b.c",
    ],
)
def test_what_is_no_secret_stays(text):
    assert logs.without_secrets(text) == text


def test_traceback_is_part_of_the_json_object():
    def act():
        try:
            raise ValueError("no luck")
        except ValueError:
            LOGGER.exception("it broke")

    (line,) = lines("json", act)
    assert "ValueError: no luck" in json.loads(line)["exception"]


def test_configuring_again_replaces_what_was_before():
    first, second = io.StringIO(), io.StringIO()
    logs.configure(stream=first)
    logs.configure("json", stream=second)
    LOGGER.info("once")
    assert first.getvalue() == ""
    assert len(second.getvalue().splitlines()) == 1


def test_reconciler_logs_each_end_once_with_the_run_as_it_is(world):
    claim = world.start(world.service.submit("refresh/prices"))
    world.gateway.end(claim.run.flow_run_id, message="the worker died")
    stream = io.StringIO()
    logs.configure("json", stream=stream)
    world.reconcile()
    world.reconcile()
    found = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [(one["module"], one["message"], one["actor"]) for one in found] == [
        ("runs.repair.reconcile", "the worker died", "reconciler")
    ]
    assert (found[0]["run_id"], found[0]["deployment"]) == (show_run_id(claim.run.id), "refresh/prices")
    assert (found[0]["status"], found[0]["stop_reason"]) == ("failed", "crashed")


def test_reconciler_logs_a_run_that_it_releases(world):
    run = world.service.submit("refresh/momentum", on_stale="wait")
    world.graph.publish("refresh/prices", "by hand")
    stream = io.StringIO()
    logs.configure("json", stream=stream)
    world.reconcile()
    (found,) = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert (found["run_id"], found["status"], found["stop_reason"]) == (show_run_id(run.id), "pending", None)


class Heard(io.StringIO):
    """Says when a text has been written."""

    def __init__(self, text):
        super().__init__()
        self.text, self.event = text, threading.Event()

    def write(self, text):
        if self.text in text:
            self.event.set()
        return super().write(text)


def test_background_says_what_failed_and_of_which_run(world):
    run = world.service.submit("refresh/prices")
    stream = Heard("is tried again")
    logs.configure("json", stream=stream)
    world.gateway.is_down = True
    program = SimpleNamespace(settings=load_settings(), database=world.database, objects=world.objects)
    with Background(program, world.gateway, reconcile_s=60):
        assert stream.event.wait(timeout=30)
    assert show_run_id(run.id) in stream.getvalue()
