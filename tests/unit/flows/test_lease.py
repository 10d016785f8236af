"""The lease: the keeper writes what a heartbeat writes, what stops a body, and who renews when all goes wrong."""

import array
import ctypes
import fcntl
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import psutil
import pytest
import sqlalchemy as sa

from freshline.flows import keeping
from freshline.flows.lease import Lease, RunCancelled, RunPaused
from freshline.runs import lease_keeper
from freshline.runs.execution import Claim
from freshline.runs.lease_keeper import beat_once, store_of
from freshline.runs.lease_terms import Beat, LeaseTerms, keeper_command, lease_terms, surroundings
from freshline.runs.models import Run
from freshline.runs.port import DirectPort
from freshline.runs.service import RunExecutionService
from freshline.runs.status import LEASED
from freshline.storage.database import Database
from freshline.storage.errors import Fenced
from freshline.storage.ids import new_id
from tests.factories import Graph, declared
from tests.fakes import FakeGateway

ROOT = Path(__file__).parents[3]
RUN = Run.__table__


@dataclass
class Held:
    """A run that this process holds, in a store whose clock is the database's."""

    database: Database
    gateway: FakeGateway
    port: DirectPort
    claim: Claim

    @property
    def id(self) -> UUID:
        return self.claim.run.id

    @property
    def fence(self) -> int:
        return self.claim.run.fence

    @property
    def terms(self) -> LeaseTerms:
        terms = self.port.lease_terms(self.id, self.fence)
        assert terms is not None
        return terms

    def keeper(self, **changed: Any) -> Any:
        """The keeper's connection, in this process."""
        return store_of(json.loads(replace(self.terms, **changed).as_json()))

    def row(self) -> Any:
        with self.database.read() as connection:
            return connection.execute(sa.select(RUN).where(RUN.c.id == self.id)).one()

    def now(self) -> datetime:
        with self.database.read() as connection:
            return self.database.now(connection)

    def has_expired(self) -> bool:
        return self.row().lease_until < self.now()

    def was_renewed_beyond_its_first_length(self) -> bool:
        """Whether it was renewed later than the lease of the claim would have run out, however late it is by now."""
        return bool(self.row().heartbeat_at > self.claim.run.lease_until)

    def claimed_again(self) -> Claim:
        """Its infrastructure starts the flow run again: a new fence."""
        return self.port.claim(self.gateway.begin(self.claim.run.flow_run_id))


def held_run(database: Database, *, lease_s: float = 60.0, heartbeat_s: float = 15.0) -> Held:
    gateway = FakeGateway()
    facts = gateway.add_deployment("flow/alpha")
    Graph(database, replace(declared("training/alpha"), prefect_deployment_id=facts.id))
    port = DirectPort(database, None, gateway, lease_s=lease_s, heartbeat_s=heartbeat_s)  # type: ignore[arg-type]
    flow_run = gateway.begin(gateway.click(facts.id).id)
    return Held(database, gateway, port, port.claim(flow_run))


@pytest.fixture
def held(database: Database) -> Held:
    return held_run(database)


def wait_until(condition: Callable[[], bool], *, within_s: float = 60.0) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


# What the keeper writes.


def raw(held: Held) -> dict[str, tuple[str, str]]:
    """The stored values themselves, with their types."""
    kind = "typeof" if held.database.dialect == "sqlite" else "pg_typeof"
    columns = ", ".join(f"{kind}({name}), {name}" for name in ("heartbeat_at", "lease_until"))
    with held.database.read() as connection:
        first = connection.exec_driver_sql(f"SELECT {columns} FROM run").one()
    return {"heartbeat_at": (str(first[0]), str(first[1])), "lease_until": (str(first[2]), str(first[3]))}


def test_keeper_stores_values_as_a_heartbeat_stores_them(held):
    held.port.heartbeat(held.id, held.fence)
    of_heartbeat = raw(held)
    keeper = held.keeper()
    assert beat_once(keeper) == (Beat.OK, "")
    of_keeper = raw(held)
    keeper.close()
    for name, (kind, value) in of_heartbeat.items():
        assert of_keeper[name][0] == kind
        assert len(of_keeper[name][1]) == len(value)
        # Text that is compared as text must be in order.
        assert of_keeper[name][1] > value


def test_keeper_renews_by_the_length_of_the_lease_and_nothing_else(held):
    before = held.row()
    keeper = held.keeper()
    beat_once(keeper)
    keeper.close()
    after = held.row()
    assert after.lease_until - after.heartbeat_at == timedelta(seconds=60)
    assert timedelta(0) <= held.now() - after.heartbeat_at < timedelta(seconds=30)
    unchanged = {name: value for name, value in before._mapping.items() if name not in ("lease_until", "heartbeat_at")}
    assert {name: after._mapping[name] for name in unchanged} == unchanged


def test_keeper_s_guard_names_the_statuses_that_hold_a_lease():
    named = ", ".join(f"'{status}'" for status in sorted(LEASED))
    assert f"status IN ({named})" in lease_keeper._GUARD


def test_keeper_says_what_was_asked(held):
    keeper = held.keeper()
    service = RunExecutionService(held.database)
    service.pause(held.id)
    assert beat_once(keeper) == (Beat.PAUSE, "")
    assert held.port.heartbeat(held.id, held.fence) == Beat.PAUSE
    service.cancel(held.id)
    assert beat_once(keeper) == (Beat.CANCEL, "")
    assert held.port.heartbeat(held.id, held.fence) == Beat.CANCEL
    keeper.close()


@pytest.mark.parametrize("how", ["claimed again", "ended", "unknown"])
def test_keeper_is_fenced_when_a_heartbeat_is(held, how):
    run_id = new_id() if how == "unknown" else held.id
    if how == "claimed again":
        held.claimed_again()
    elif how == "ended":
        held.port.fail(held.id, held.fence, ValueError("x"), "", will_retry=False)
    keeper = held.keeper(run_id=run_id)
    before = held.row()
    assert beat_once(keeper) == (Beat.FENCED, "")
    keeper.close()
    assert held.row() == before
    with pytest.raises(Fenced):
        held.port.heartbeat(run_id, held.fence)


def test_keeper_takes_up_an_expired_lease_that_nobody_took(held):
    expired = sa.update(RUN).where(RUN.c.id == held.id).values(lease_until=held.now() - timedelta(hours=1))
    held.database.write(lambda connection: connection.execute(expired))
    keeper = held.keeper()
    assert beat_once(keeper) == (Beat.OK, "")
    keeper.close()
    assert not held.has_expired()


def test_keeper_outlasts_a_lost_connection(held):
    keeper = held.keeper()
    assert beat_once(keeper)[0] == Beat.OK
    if held.database.dialect == "sqlite":
        path = Path(held.database.engine.url.database)
        held.database.dispose()
        keeper.close()
        path.rename(path.with_suffix(".away"))
        assert beat_once(keeper)[0] == Beat.AWAY
        assert not path.exists(), "it must never make a new store"
        path.with_suffix(".away").rename(path)
    else:
        end_others = """
            SELECT pg_terminate_backend(pid) FROM pg_stat_activity
            WHERE pid <> pg_backend_pid() AND datname = current_database()
        """
        with held.database.read() as connection:
            connection.exec_driver_sql(end_others)
        beat, reason = beat_once(keeper)
        assert beat == Beat.AWAY
        assert "\n" not in reason
    assert beat_once(keeper)[0] == Beat.OK
    keeper.close()


# Its terms.


def test_terms_need_a_store_that_another_process_reaches_with_the_same_clock(held, tmp_path):
    own_clock = Database(held.database.engine.url.render_as_string(hide_password=False), clock=held.now)
    own_way = Database(f"sqlite:///{tmp_path / 'x.db'}?timeout=5")
    for database in (own_clock, own_way):
        assert lease_terms(database, held.id, held.fence, lease_s=60, interval_s=15) is None
        database.dispose()
    assert held.terms.interval_s == 15.0


def test_terms_do_not_show_the_password():
    database = Database("postgresql+psycopg://me:geheim@nowhere.test:5433/x?sslmode=require&prepare_threshold=none")
    terms = lease_terms(database, new_id(), 1, lease_s=60, interval_s=15)
    assert terms is not None
    assert "geheim" not in repr(terms)
    assert json.loads(terms.as_json())["connect"] == {
        "host": "nowhere.test", "port": 5433, "dbname": "x", "user": "me", "password": "geheim", "sslmode": "require",
    }  # fmt: skip


# What stops a body.


@contextmanager
def beating(*answers: Any, **options: Any) -> Iterator[Lease]:
    """A lease whose beats give these answers, the last one for ever; a thread renews it."""
    left = list(answers)

    def beat() -> Any:
        answer = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    with Lease(beat, interval_s=0.001, **options) as lease:
        yield lease


def check_until_stopped(lease: Lease) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        lease.check()


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        ([None, Beat.CANCEL], RunCancelled),
        ([None, Beat.PAUSE], RunPaused),
        ([ConnectionError("away"), Fenced("held by another")], Fenced),
    ],
)
def test_check_stops_the_body_and_remembers_why(answers, expected):
    with beating(*answers) as lease, pytest.raises(expected):
        check_until_stopped(lease)
    assert isinstance(lease.stopped, expected)


@pytest.mark.parametrize("signal_", [RunCancelled, RunPaused])
def test_signal_is_no_exception_that_a_body_would_swallow(signal_):
    assert not issubclass(signal_, Exception)


def test_cancellation_counts_more_than_a_pause():
    with beating(Beat.PAUSE, Beat.CANCEL, Beat.PAUSE) as lease:
        wait_until(lambda: lease._asked == Beat.CANCEL)
        with pytest.raises(RunCancelled):
            lease.check()


def test_pause_that_is_taken_back_before_the_body_notices_is_none():
    said = [Beat.PAUSE]
    with Lease(lambda: said[-1], interval_s=0.001) as lease:
        wait_until(lambda: lease._asked == Beat.PAUSE)
        said.append(None)
        wait_until(lambda: lease._asked is None)
        lease.check()


def test_pause_of_what_cannot_be_suspended_is_said_once_and_the_body_carries_on(caplog):
    beats = []
    with beating(Beat.PAUSE, can_pause=False, send=lambda: beats.append(1)) as lease:
        wait_until(lambda: len(beats) > 2)
        lease.check()
    assert [record.levelname for record in caplog.records if "pause was asked for" in record.message] == ["WARNING"]


def test_outage_is_said_at_its_beginning_and_at_its_end(caplog):
    caplog.set_level(logging.INFO, logger="freshline.flows.lease")
    beats = []
    away = ConnectionError("the database is away")
    with beating(away, away, away, None, send=lambda: beats.append(1)) as lease:
        wait_until(lambda: len(beats) > 1)
        lease.check()
    said = [record.message for record in caplog.records]
    assert len(said) == 2
    assert "the database is away" in said[0]
    assert "renewed again" in said[1]


def test_what_waits_is_sent_after_a_beat_and_a_failure_of_that_stops_nothing(caplog):
    sent = []

    def send() -> None:
        sent.append(1)
        raise ConnectionError("away")

    with beating(None, send=send) as lease:
        wait_until(lambda: len(sent) > 2)
        lease.check()
    assert "could not be sent" in caplog.text


def test_body_is_stopped_when_sending_finds_the_run_held_by_another():
    def send() -> None:
        raise Fenced("held by another")

    with beating(None, send=send) as lease, pytest.raises(Fenced):
        check_until_stopped(lease)


# A process of its own renews.


def keeper_of(process_id: int) -> psutil.Process | None:
    """The process that renews the lease for this one."""
    for child in psutil.Process(process_id).children():
        if child.status() != psutil.STATUS_ZOMBIE and any("lease_keeper" in part for part in child.cmdline()):
            return child
    return None


def never() -> None:
    raise AssertionError("the other process renews")


def own_keeper() -> psutil.Process:
    found = keeper_of(os.getpid())
    assert found is not None
    return found


def stopped_keeper() -> psutil.Process:
    keeper = own_keeper()
    keeper.suspend()
    wait_until(lambda: keeper.status() == psutil.STATUS_STOPPED)
    return keeper


def hold_the_interpreter(seconds: int) -> None:
    """Call a C function that does not give the interpreter lock away."""
    ctypes.PyDLL(None).sleep(seconds)


def another(held: Held) -> Held:
    """Another run in the same store."""
    name = f"beta-{new_id().hex}"
    facts = held.gateway.add_deployment(f"flow/{name}")
    Graph(held.database, replace(declared(f"training/{name}"), prefect_deployment_id=facts.id))
    return replace(held, claim=held.port.claim(held.gateway.begin(held.gateway.click(facts.id).id)))


def test_body_that_holds_the_interpreter_for_several_leases_keeps_its_leases(database):
    first = held_run(database, lease_s=1.5, heartbeat_s=0.3)
    second = another(first)
    keeping._shared.end()
    with (
        Lease(never, interval_s=0.3, terms=first.terms) as lease_of_first,
        Lease(never, interval_s=0.3, terms=second.terms) as lease_of_second,
    ):
        hold_the_interpreter(4)
        assert first.was_renewed_beyond_its_first_length()
        assert second.was_renewed_beyond_its_first_length()
        lease_of_first.check()
        lease_of_second.check()


def test_keeper_s_words_reach_the_body(database):
    held = held_run(database, heartbeat_s=0.05)
    sent = []
    with Lease(never, interval_s=0.05, terms=held.terms, send=lambda: sent.append(1)) as lease:
        wait_until(lambda: len(sent) > 1)
        lease.check()
        RunExecutionService(database).cancel(held.id)
        with pytest.raises(RunCancelled):
            check_until_stopped(lease)


def test_body_is_told_that_its_run_was_claimed_again(database):
    held = held_run(database, heartbeat_s=0.05)
    with Lease(never, interval_s=0.05, terms=held.terms) as lease:
        held.claimed_again()
        with pytest.raises(Fenced, match=f"by fence {held.fence} any more"):
            check_until_stopped(lease)


@pytest.fixture
def held_file(tmp_path, sqlite_template) -> Iterator[Held]:
    """A run in a SQLite file, where the database makes no difference."""
    path = tmp_path / "freshline.db"
    path.write_bytes(sqlite_template.read_bytes())
    database = Database(f"sqlite:///{path}", sqlite_synchronous="OFF")
    yield held_run(database, lease_s=1.0, heartbeat_s=0.1)
    database.dispose()


def listeners() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("freshline-lease")]


def renewed(held: Held) -> None:
    """Wait until the keeper has renewed the lease once more."""
    before = held.row().heartbeat_at
    wait_until(lambda: held.row().heartbeat_at > before)


def test_leases_at_once_and_one_after_another_share_a_process_and_a_thread(held_file):
    with Lease(never, interval_s=3600, terms=held_file.terms), Lease(never, interval_s=3600, terms=held_file.terms):
        keeper, threads = own_keeper(), listeners()
    with Lease(never, interval_s=3600, terms=held_file.terms):
        assert own_keeper() == keeper
        assert listeners() == threads
    assert len(threads) == 1


def test_each_lease_hears_its_own_words_alone(held_file):
    runs = {name: another(held_file) for name in ("cancelled", "paused", "claimed again", "left alone")}
    execution, said = RunExecutionService(held_file.database), {}
    with ExitStack() as exits:
        for number, (name, run) in enumerate(runs.items()):
            interval_s = 0.02 * (number + 1)
            said[name] = exits.enter_context(Lease(never, interval_s=interval_s, terms=terms_every(interval_s, run)))
        execution.cancel(runs["cancelled"].id)
        execution.pause(runs["paused"].id)
        runs["claimed again"].claimed_again()
        for name, stop in (("cancelled", RunCancelled), ("paused", RunPaused), ("claimed again", Fenced)):
            with pytest.raises(stop):
                check_until_stopped(said[name])
        renewed(runs["left alone"])
        said["left alone"].check()


def terms_every(interval_s: float, held: Held) -> LeaseTerms:
    return replace(held.terms, interval_s=interval_s)


@pytest.mark.parametrize("driver", ["psycopg", "http"])
def test_database_that_hangs_keeps_no_other_lease_waiting(held_file, driver):
    with socket.create_server(("127.0.0.1", 0)) as silent:  # it takes connections, and never answers
        port = silent.getsockname()[1]
        connect = {"host": "127.0.0.1", "port": port}
        if driver == "http":
            connect = {"url": f"http://127.0.0.1:{port}/heartbeat", "token": "x"}
        hanging = replace(terms_every(0.01, held_file), driver=driver, connect=connect)
        heard = []
        with (
            Lease(never, interval_s=0.01, terms=hanging, send=lambda: heard.append(1)) as waiting,
            Lease(never, interval_s=0.05, terms=terms_every(0.05, held_file)) as lease,
        ):
            asked, _ = silent.accept()
            for _ in range(3):
                renewed(held_file)
            lease.check()
            assert (heard, waiting._is_away) == ([], False)  # it waits still
            asked.close()


def test_what_takes_long_to_send_keeps_no_other_lease_waiting(held_file):
    other, done, sending = another(held_file), threading.Event(), threading.Event()

    def send() -> None:
        sending.set()
        done.wait(60)

    with (
        Lease(never, interval_s=0.02, terms=terms_every(0.02, held_file), send=send),
        Lease(never, interval_s=0.02, terms=terms_every(0.02, other)) as lease,
    ):
        assert sending.wait(60)
        RunExecutionService(other.database).cancel(other.id)
        with pytest.raises(RunCancelled):
            check_until_stopped(lease)
        done.set()


def test_lease_that_has_ended_leaves_nothing_in_the_keeper(held_file):
    with Lease(never, interval_s=0.02, terms=terms_every(0.02, held_file)):
        keeper = own_keeper()
        renewed(held_file)
        file = held_file.database.engine.url.database
        assert file in {one.path for one in keeper.open_files()}
    wait_until(lambda: keeper.num_threads() == 1)
    assert file not in {one.path for one in keeper.open_files()}


def test_begin_and_end_of_a_lease_wait_for_nothing(held_file):
    with Lease(never, interval_s=3600, terms=held_file.terms):
        keeper = stopped_keeper()
        with Lease(never, interval_s=3600, terms=held_file.terms):
            pass
    assert keeper.status() == psutil.STATUS_STOPPED
    keeper.resume()


def test_keeper_that_does_not_read_keeps_no_body_waiting_and_is_given_up(held_file, caplog):
    beats = []
    large = replace(held_file.terms, connect={"path": "x" * 20_000})
    with ExitStack() as exits:
        lease = Lease(lambda: beats.append(1), interval_s=3600, terms=held_file.terms)
        exits.enter_context(lease)
        keeper = stopped_keeper()
        for _ in range(4):  # more than a pipe holds
            exits.enter_context(Lease(lambda: None, interval_s=3600, terms=large))
        wait_until(lambda: not psutil.pid_exists(keeper.pid))
        wait_until(lambda: beats == [1])  # at once, since it may be overdue
        assert own_keeper().pid != keeper.pid
    assert {record.message for record in caplog.records} >= {
        "no other process renews the lease any more (it has ended); a thread does"
    }


def test_parent_that_reads_nothing_stops_no_beat_and_misses_no_end(held_file, tmp_path):
    gone = replace(terms_every(0.01, held_file), connect={"path": str(tmp_path / "gone")})
    ended = another(held_file)
    ended.port.fail(ended.id, ended.fence, ValueError("x"), "", will_retry=False)
    with subprocess.Popen(keeper_command(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0) as keeper:
        assert keeper.stdin is not None
        assert keeper.stdout is not None
        size = fcntl.fcntl(keeper.stdout, fcntl.F_SETPIPE_SZ, 4096)
        keeper.stdin.write(b"= " + surroundings() + b"\n+ 1 0.01 " + gone.as_json() + b"\n")
        wait_until(lambda: waiting_in(keeper.stdout) > size - 200)
        keeper.stdin.write(b"+ 3 0.01 " + held_file.terms.as_json() + b"\n")
        wait_until(lambda: waiting_in(keeper.stdout) > size - len("2 fenced\n"))
        keeper.stdin.write(b"+ 2 0.01 " + ended.terms.as_json() + b"\n")
        for _ in range(5):
            renewed(held_file)
        said = bytearray()

        def is_told() -> bool:
            said.extend(keeper.stdout.read(1000))
            return b"\n2 fenced\n" in said

        wait_until(is_told)
        keeper.stdin.close()
    whole = bytes(said).rpartition(b"\n")[0]
    words = {tuple(line.split()[:2]) for line in whole.splitlines()}
    assert words == {(b"1", b"away"), (b"2", b"fenced"), (b"3", b"ok")}


def waiting_in(pipe: Any) -> int:
    """How many bytes wait to be read."""
    number = array.array("i", [0])
    fcntl.ioctl(pipe, termios.FIONREAD, number)
    return number[0]


def test_keeper_leaves_ctrl_c_to_the_body(held_file):
    with Lease(never, interval_s=0.05, terms=terms_every(0.05, held_file)) as lease:
        renewed(held_file)
        own_keeper().send_signal(signal.SIGINT)
        for _ in range(2):
            renewed(held_file)
        lease.check()


def test_password_is_not_in_the_list_of_processes(held_file):
    with Lease(never, interval_s=3600, terms=held_file.terms):
        assert own_keeper().cmdline()[1:] == ["-I", "-S", lease_keeper.__file__, str(os.getpid())]


def test_thread_goes_on_when_the_process_is_lost_and_the_next_lease_has_another_process(held_file, caplog):
    beats = []
    with Lease(lambda: beats.append(1), interval_s=0.01, terms=held_file.terms) as lease:
        lost = own_keeper()
        lost.kill()
        wait_until(lambda: len(beats) > 2)
        lease.check()
        with Lease(never, interval_s=0.05, terms=terms_every(0.05, held_file)):
            assert own_keeper() != lost
            renewed(held_file)
    assert [record.message for record in caplog.records] == [
        "no other process renews the lease any more (it has ended); a thread does"
    ]


def test_thread_goes_on_with_the_lease_that_the_process_cannot_renew_and_with_no_other(held_file, caplog):
    beats = []
    unknown = replace(terms_every(0.01, held_file), driver="unknown")
    with (
        Lease(lambda: beats.append(1), interval_s=0.01, terms=unknown),
        Lease(never, interval_s=0.05, terms=terms_every(0.05, held_file)),
    ):
        wait_until(lambda: len(beats) > 2)
        renewed(held_file)
    assert [record.message for record in caplog.records] == [
        "no other process renews the lease any more (KeyError: 'unknown'); a thread does"
    ]


def test_thread_renews_when_no_process_can_be_started(held_file, caplog, monkeypatch):
    beats = []
    keeping._shared.end()
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with Lease(lambda: beats.append(1), interval_s=0.01, terms=held_file.terms):
        wait_until(lambda: len(beats) > 2)
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "no process can be started" in caplog.text


def test_keeper_looks_for_drivers_and_for_variables_as_its_parent_does_now(held_file, monkeypatch):
    monkeypatch.setenv("PGPASSFILE", "mine")
    keeper = lease_keeper.Keeper(os.getpid())
    keeper.obey(b"= " + surroundings())
    for name, value in (("PGPASSFILE", "other"), ("PGSSLMODE", "require"), ("HOME", "/elsewhere")):
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "path", [])
    keeper.store_of(held_file.terms.as_json())
    assert {name: os.environ.get(name) for name in ("PGPASSFILE", "PGSSLMODE", "HOME")} == {
        "PGPASSFILE": "mine", "PGSSLMODE": None, "HOME": "/elsewhere",
    }  # fmt: skip
    assert sys.path


PROCESS = """
import os
from uuid import UUID
import psutil
from freshline.flows.lease import Lease
from freshline.runs.lease_terms import LeaseTerms

def keepers():
    return [child.pid for child in psutil.Process().children() if "lease_keeper" in str(child.cmdline())]

terms = LeaseTerms(
    driver="sqlite", connect={"path": "nowhere"}, run_id=UUID(int=1), fence=1, lease_s=60.0, interval_s=3600.0
)
with Lease(None, interval_s=3600, terms=terms):
    (own,) = keepers()
    forked = os.fork()
    if not forked:
        assert keepers() == []
    else:
        _, status = os.waitpid(forked, 0)
        assert (status, keepers()) == (0, [own])
with Lease(None, interval_s=3600, terms=terms):
    assert (keepers() == [own]) == bool(forked)
    print(*keepers(), flush=True)
"""


def test_process_ends_with_its_keeper_and_without_a_warning_and_its_fork_has_its_own():
    command = [sys.executable, "-W", "error::ResourceWarning", "-c", PROCESS]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    keepers = [int(line) for line in done.stdout.split()]
    assert len(set(keepers)) == 2
    assert not any(psutil.pid_exists(keeper) for keeper in keepers)


# The worker is stopped or killed.

WORKER = """
import os, sys, time
from uuid import UUID
from freshline.flows import keeping
from freshline.flows.lease import Lease
from freshline.runs.result import Result
from freshline.runs.port import DirectPort
from freshline.storage.database import Database
from freshline.storage.errors import Fenced

url, run_id, fence = sys.argv[1], UUID(sys.argv[2]), int(sys.argv[3])
heartbeat_s, forks = float(sys.argv[4]), sys.argv[5] == "forks"
port = DirectPort(Database(url), None, None, lease_s=1.0, heartbeat_s=heartbeat_s)
with Lease(lambda: None, interval_s=heartbeat_s, terms=port.lease_terms(run_id, fence)) as lease:
    if forks:  # as a library may that forks without Python's knowledge
        keeper = keeping._shared._keeper
        for pipe in (keeper._orders, keeper._words):
            os.dup(pipe.fileno())
    forked = os.fork() if forks else None
    if forked == 0:
        time.sleep(120)
    print(forked or "begun", flush=True)
    try:
        until = time.monotonic() + 120  # whatever becomes of the test
        while time.monotonic() < until:
            lease.check()
            time.sleep(0.01)
    except Fenced:
        print("stopped", flush=True)
    try:
        port.complete(run_id, fence, Result())
    except Fenced:
        print("published nothing", flush=True)
"""


@dataclass
class Worker:
    """A process that executes a body, in a process group of its own."""

    process: subprocess.Popen[bytes]
    output: Path

    def said(self) -> list[str]:
        return self.output.read_text().splitlines()

    @property
    def keeper(self) -> psutil.Process:
        found = keeper_of(self.process.pid)
        assert found is not None
        return found

    def kill(self) -> None:
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait()


@contextmanager
def working(held: Held, directory: Path, *, heartbeat_s: float = 0.1, forks: bool = False) -> Iterator[Worker]:
    url = held.database.engine.url.render_as_string(hide_password=False)
    arguments = [url, str(held.id), str(held.fence), str(heartbeat_s), "forks" if forks else "-"]
    output = directory / "output"
    with output.open("wb") as written:
        process = subprocess.Popen(
            [sys.executable, "-c", WORKER, *arguments], cwd=ROOT, stdout=written, start_new_session=True
        )
    worker = Worker(process, output)
    try:
        wait_until(lambda: len(worker.said()) == 1)
        yield worker
    finally:
        with suppress(ProcessLookupError):  # nobody of its group is left
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def is_gone(process: psutil.Process) -> bool:
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_keeper_ends_at_once_with_its_worker(held_file, tmp_path):
    with working(held_file, tmp_path, heartbeat_s=3600) as worker:
        keeper = worker.keeper
        worker.kill()
        wait_until(lambda: is_gone(keeper))


def test_killed_worker_s_lease_runs_out_although_a_process_that_it_forked_lives_on(held_file, tmp_path):
    with working(held_file, tmp_path, forks=True) as worker:
        renewed(held_file)
        keeper, forked = worker.keeper, psutil.Process(int(worker.said()[0]))
        worker.kill()
        wait_until(lambda: is_gone(keeper))
        wait_until(held_file.has_expired)
        assert not is_gone(forked)


def test_stopped_worker_s_lease_runs_out_although_its_keeper_runs(held_file, tmp_path):
    with working(held_file, tmp_path) as worker:
        renewed(held_file)
        keeper = worker.keeper
        os.kill(worker.process.pid, signal.SIGSTOP)
        wait_until(held_file.has_expired)
        assert not is_gone(keeper)
        os.kill(worker.process.pid, signal.SIGCONT)
        renewed(held_file)


def test_worker_that_was_stopped_with_all_its_processes_is_fenced_and_publishes_nothing(database, tmp_path):
    held = held_run(database, lease_s=1.0, heartbeat_s=0.1)
    with working(held, tmp_path) as worker:
        renewed(held)
        os.killpg(worker.process.pid, signal.SIGSTOP)
        wait_until(held.has_expired)
        again = held.claimed_again()
        os.killpg(worker.process.pid, signal.SIGCONT)
        wait_until(lambda: worker.said() == ["begun", "stopped", "published nothing"])
    assert (held.row().fence, held.row().status) == (again.run.fence, "running")
