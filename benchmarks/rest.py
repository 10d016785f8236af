"""The searches of `search`, asked of a server: how long the slowest of 16 clients wait, beside a client that is alone.

The server is a process of its own; the clients, in this one, each have a connection that stays open, and ask one
question after the other. A server with one processor for its Python makes 16 clients wait 16 times as long as one, when
it is fair to all and wastes nothing; what is above that is waste, or unfair. All ask for the newest runs alike, as
open pages do, and the server may answer them together; of the other two questions each client asks another one.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import count
from pathlib import Path
from statistics import median
from time import monotonic
from typing import Any
from urllib.parse import urlencode

from freshline.runs.migrate import ensure_schema
from freshline.storage.database import Database
from freshline.storage.ids import show_run_id

from . import search
from .clients import Client, Clients
from .comparisons import Comparison, Kind
from .floors.search import RawSearch
from .harness import OURS, Setting, Subject, Subjects, Work
from .servers import durable_postgres

SIZE = 100_000
"""Stored runs."""
CLIENTS = 16
QUESTIONS = 25
"""Of each client, in a round of each question; the client alone asks four times as many."""

_TARGET = 20.0
_START_S = 60.0
_PATH = "/api/v1/runs"


@contextmanager
def prepare(dialect: str, size: int, setting: Setting) -> Iterator[Subjects]:
    """Fill a store, start a server of it, and compare its answers with those without it."""
    with ExitStack() as exits:
        server = exits.enter_context(durable_postgres()) if dialect == "postgres" else None
        path = str(setting.directory / "searched.db")
        address = f"sqlite:///{path}" if server is None else server.make_database("searched")
        database = Database(address)
        exits.callback(database.dispose)
        ensure_schema(database)
        search.fill(database, size)
        setting.tell(f"rest_{dialect}: {size:,} runs stored")
        raw = RawSearch(database.dialect, path if server is None else server.conninfo("searched"))
        exits.callback(raw.close)
        asked = search.asked_of(database, raw, bounds=2 * CLIENTS)
        url = exits.enter_context(serving(address, setting.directory))
        many, alone = Clients(url, CLIENTS), Clients(url, 1)
        subjects: dict[str, Subject] = {}
        for question, paths in paths_of(asked).items():
            ours, _ = asked.pairs()[question]
            check(url, paths, [[show_run_id(one.id) for one in ours(number).items] for number in range(len(paths))])
            subjects[role(question)] = Subject(
                f"99 of 100 answers to {CLIENTS} clients, {question}, {size:,} runs stored",
                partial(slowest_ms, many, paths),
                None,
            )
            subjects[alone_of(question)] = Subject(
                f"half of the answers to one client, {question}", partial(usual_ms, alone, paths), None
            )
            subjects[query_of(question)] = Subject(
                f"runs.search without a server, {question}", partial(search.per_question, ours, count()), None
            )
        yield subjects


def paths_of(asked: search.Asked) -> dict[str, list[str]]:
    """Return what is asked of the server: the same as without it."""
    found: dict[str, list[str]] = {"newest": [_PATH], "metric": [], "later": []}
    for bound, (cursor, _) in asked.places.items():
        first = {"query": search.of_metric(bound), "order_by": search.ORDER}
        found["metric"].append(f"{_PATH}?{urlencode(first)}")
        found["later"].append(f"{_PATH}?{urlencode({**first, 'cursor': cursor})}")
    return found


def check(url: str, paths: Sequence[str], expected: Sequence[Sequence[str]]) -> None:
    """Refuse to measure answers to different questions."""
    client = Client(url)
    try:
        for path, ids in zip(paths, expected, strict=True):
            given = [one["id"] for one in json.loads(client.ask(path))["items"]]
            assert given == ids, path
    finally:
        client.close()


def slowest_ms(clients: Clients, paths: Sequence[str]) -> float:
    """Return the time within which 99 of 100 answers come."""
    taken = sorted(clients.durations_ms(paths, QUESTIONS))
    return taken[min(len(taken) - 1, len(taken) * 99 // 100)]


def usual_ms(clients: Clients, paths: Sequence[str]) -> float:
    """Return the time within which half of the answers come."""
    return median(clients.durations_ms(paths, 4 * QUESTIONS))


@contextmanager
def serving(database_url: str, directory: Path) -> Iterator[str]:
    """Run `freshline serve` as a process; yield its address."""
    command = [sys.executable, "-c", "from freshline.runs.cli import main; main()", "serve", "--port", "0"]
    log = (directory / "server.log").open("w+b")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("FRESHLINE_", "PREFECT_"))}
    settings = {"FRESHLINE_HOME": str(directory / "home"), "FRESHLINE_DATABASE_URL": database_url}
    process = subprocess.Popen(command, stdout=log, stderr=log, env=environment | settings)
    try:
        yield _address(process, directory / "server.log")
    finally:
        process.terminate()
        try:
            process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        log.close()


def role(question: str) -> str:
    """Return the role of 16 clients with a question."""
    return OURS if question == "newest" else question


def alone_of(question: str) -> str:
    """Return the role of a client that is alone."""
    return f"{question} alone"


def query_of(question: str) -> str:
    """Return the role of a question without a server."""
    return f"{question} without a server"


def works(size: int = SIZE) -> Mapping[str, Work]:
    """Return the works, by name."""
    questions = ("newest", "metric", "later")
    comparisons = [Comparison(Kind.RATIO, role(one), alone_of(one), target=_TARGET) for one in questions]
    comparisons += [Comparison(Kind.RATIO, alone_of(one), query_of(one)) for one in questions]
    return {
        f"rest_{dialect}": Work(
            name=f"rest_{dialect}",
            what=f"a page of 50 runs with ten metrics each, out of {size:,}, asked of a server by {CLIENTS} clients",
            unit="ms",
            higher_is_better=False,
            prepare=partial(prepare, dialect, size),
            comparisons=comparisons,
        )
        for dialect in ("sqlite", "postgres")
    }


def _address(process: "subprocess.Popen[Any]", log: Path) -> str:
    """Wait until the server says where it is."""
    until = monotonic() + _START_S
    while monotonic() < until:
        said = log.read_text(errors="replace")
        for line in said.splitlines():
            if line.startswith("API: "):
                return line.removeprefix("API: ").removesuffix("/api/v1").strip()
        try:
            code = process.wait(timeout=0.05)
        except subprocess.TimeoutExpired:
            continue
        raise RuntimeError(f"the server ended with code {code}: {said[-2000:]}")
    raise RuntimeError(f"the server did not say within {_START_S:g} s where it is: {said[-2000:]}")
