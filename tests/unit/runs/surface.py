"""A store in which people have written what is meant to do harm, and a call of every command that reads or writes it.

Owns the store and the calls; what must hold of each call is for the tests to say.
"""

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pandas as pd
import sqlalchemy as sa

from freshline.runs.author_events import AuthorEvent
from freshline.runs.care.deletion import Deletions
from freshline.runs.curation import Curation
from freshline.runs.models import Run, Step
from freshline.runs.redo.backfill_plan import BackfillRequest
from freshline.runs.redo.backfilling import Backfills
from freshline.runs.result import Result
from freshline.storage.artifacts import ArtifactRecord
from freshline.storage.filesystem import ObjectStore
from freshline.storage.ids import show_run_id
from freshline.storage.parquet import write_table
from tests.factories import START, declared
from tests.unit.runs.conftest import World, make_world

PRICES, MOMENTUM, BOOK, VENDOR = "refresh/prices", "refresh/momentum", "backtest/book", "refresh/vendor"
PRINTABLE = "[red]a[/] [link=http://x]b[/link] <script>alert(1)</script>"
"""Markup of a terminal's library and of a page, in characters that every name may have."""
NASTY = f"{PRINTABLE} \x1b[31m\x9b2J\x1b]0;title\x07 \u202edlrow\u202c \roverwritten"
"""The same with what terminals obey, and what turns text around."""

CATALOGUE = """
deployments:
  - name: prices
    entrypoint: freshline.flows.refresh.refresh
    work_pool: {name: local}
    resource: {name: prices, kind: dataset, runs: refresh}
"""
_numbers = itertools.count(1)


def new_name() -> str:
    """A name that nobody has."""
    return f"name{next(_numbers)}"


@dataclass
class Surface:
    """The store, and the runs that calls are about."""

    world: World
    home: Path
    runs: dict[str, Run] = field(default_factory=dict)

    def id_of(self, name: str) -> str:
        return show_run_id(self.runs[name].id)

    def pending(self) -> str:
        """A new run that waits for Prefect."""
        return show_run_id(self.world.service.submit(PRICES, actor=NASTY).id)

    def ended(self) -> str:
        """A new run that has failed."""
        claim = self.world.start(self.world.service.submit(PRICES, actor=NASTY))
        self.world.port.fail(claim.run.id, claim.run.fence, OSError(NASTY), NASTY, will_retry=False)
        self.world.gateway.end(claim.run.flow_run_id)
        return show_run_id(claim.run.id)

    def deleted(self) -> str:
        """A new run that was deleted."""
        run = self.ended()
        Deletions(self.world.database).delete(run, reason=NASTY, actor=NASTY)
        return run

    def running(self) -> str:
        """A new run that a worker executes."""
        return show_run_id(self.world.start(self.world.service.submit(PRICES, actor=NASTY)).run.id)

    def paused(self) -> str:
        """A new run that has paused."""
        claim = self.world.start(self.world.service.submit(PRICES, actor=NASTY))
        self.world.service.pause(claim.run.id, actor=NASTY)
        self.world.port.pause(claim.run.id, claim.run.fence)
        return show_run_id(claim.run.id)

    def alias(self) -> str:
        """A new alias."""
        name = new_name()
        Curation(self.world.database).set_alias(self.version(), name, actor=NASTY, reason=NASTY)
        return name

    def withdrawn(self) -> str:
        """A new version that was withdrawn."""
        version = self.version()
        Curation(self.world.database).withdraw(version, NASTY, actor=NASTY)
        return version

    def backfill(self) -> str:
        """A new backfill."""
        first, last = self.new_range()[1:4:2]
        request = BackfillRequest(deployment=PRICES, first=first, last=last, every="1d")
        return Backfills(self.world.database).start(request, actor=NASTY).name

    def new_range(self) -> list[str]:
        """A data date that no backfill has; none is under way."""
        for one in Backfills(self.world.database).newest(deployment=PRICES, limit=1):
            if one.ended_at is None:
                Backfills(self.world.database).cancel(one.id, actor=NASTY)
        day = date(2020, 1, 1) + timedelta(days=next(_numbers))
        return ["--from", f"{day}", "--to", f"{day}", "--every", "1d"]

    def new_path(self) -> str:
        """A path where nothing is."""
        return str(self.home / new_name())

    def catalogue(self) -> str:
        """A catalogue."""
        path = self.home / "prefect.yaml"
        path.write_text(CATALOGUE)
        return str(path)

    def vendor(self) -> str:
        """A file that is no deployment's."""
        return str(self.home / "vendor.parquet")

    def version(self) -> str:
        """A new version of the prices."""
        publish(self.world, PRICES, 100 + next(_numbers))
        (newest,) = self.world.queries.runs(deployment=PRICES, limit=1)
        return f"{PRICES}@v{self.world.queries.report(newest[1].id).version}"


def make_surface(home: Path) -> Surface:
    """Make the store in a home where an empty one is, so that the environment can name it."""
    world = make_world(f"sqlite:///{home / 'freshline.db'}")
    world.objects = ObjectStore((home / "artifacts").as_uri())
    schema = {"type": "object", "properties": {"note": {"type": "string"}}}
    others = [one for key, one in world.graph.declared.items() if key != PRICES]
    prices = replace(world.graph.declared[PRICES], parameter_schema=schema)
    world.graph.register(prices, *others, declared(VENDOR, external=True))
    made = Surface(world, home)
    for content, key in ((1, PRICES), (1, MOMENTUM), (1, BOOK), (2, PRICES), (3, BOOK)):
        made.runs[f"{key} {content}"] = publish(world, key, content)
    made.runs["waiting"] = world.service.submit(BOOK, actor=NASTY, on_stale="refresh")
    Curation(world.database).set_alias(f"{PRICES}@v1", "champion", actor=NASTY, reason=NASTY)
    world.database.write(lambda connection: connection.execute(sa.insert(Step.__table__).values(_step(made))))
    pd.DataFrame({PRINTABLE: [1.0]}).to_parquet(home / "vendor.parquet")
    return made


def _step(made: Surface) -> dict[str, Any]:
    run_id = made.runs[f"{PRICES} 1"].id
    return {
        "run_id": run_id, "task_run_id": uuid4(), "name": NASTY, "status": "failed", "attempt": 1, "message": NASTY,
        "counters": {PRINTABLE: 1.0}, "started_at": START,
    }  # fmt: skip


def publish(world: World, key: str, content: Any) -> Run:
    """Run a deployment through, with what does harm in everything that a run can hold."""
    declared_too = world.graph.declared[key].parameter_schema["properties"]
    parameters = dict.fromkeys(declared_too, NASTY)
    run = world.service.submit(key, parameters, actor=NASTY, tags=[NASTY], metadata={NASTY: NASTY}, on_stale="force")
    claim = world.start(run)
    world.port.record(claim.run.id, claim.run.fence, [AuthorEvent(name=NASTY, data={NASTY: NASTY})])
    stored = write_table(world.objects, pd.DataFrame({PRINTABLE: [content]}))
    result = Result(
        artifacts=[ArtifactRecord.of_table(PRINTABLE, stored)],
        reads=world.result(content, claim=claim).reads,
        metrics={PRINTABLE: float(content)},
        conventions={PRINTABLE: {"unit": NASTY, "annualized": NASTY}},
        outputs={NASTY: NASTY},
        counters={PRINTABLE: 1.0},
    )
    world.port.complete(claim.run.id, claim.run.fence, result)
    world.gateway.end(claim.run.flow_run_id)
    return world.service.get(run.id)


Call = Callable[[Surface], list[str]]

CALLS: dict[str, Call] = {
    "alias list": lambda _: ["alias", "list", PRICES],
    "alias list ALIAS": lambda _: ["alias", "list", f"{PRICES}@champion"],
    "alias move": lambda made: ["alias", "move", made.version(), "champion", "--reason", NASTY],
    "alias rm": lambda made: ["alias", "rm", f"{PRICES}@{made.alias()}", "--reason", NASTY],
    "alias set": lambda made: ["alias", "set", made.version(), new_name(), "--reason", NASTY],
    "artifacts": lambda _: ["artifacts", f"{PRICES}@v1"],
    "artifacts NAME": lambda _: ["artifacts", f"{PRICES}@v1", PRINTABLE],
    "artifacts --to": lambda made: ["artifacts", f"{PRICES}@v1", PRINTABLE, "--to", made.new_path()],
    "backfill cancel": lambda made: ["backfill", "cancel", made.backfill()],
    "backfill list": lambda made: [made.backfill(), "backfill", "list"][1:],
    "backfill resume": lambda made: ["backfill", "resume", made.backfill()],
    "backfill show": lambda made: ["backfill", "show", made.backfill()],
    "backfill start": lambda made: ["backfill", PRICES, *made.new_range(), "-p", f"note={NASTY}"],
    "backfill start --preview": lambda made: ["backfill", PRICES, *made.new_range(), "--preview"],
    "cancel": lambda made: ["cancel", made.pending()],
    "compare": lambda made: ["compare", made.id_of(f"{PRICES} 1"), made.id_of(f"{PRICES} 2"), "--all"],
    "compare RUN RUN RUN": lambda made: ["compare", *map(made.id_of, (f"{PRICES} 1", f"{PRICES} 2", f"{BOOK} 1"))],
    "completion": lambda _: ["completion", "zsh"],
    "db upgrade": lambda _: ["db", "upgrade"],
    "delete": lambda made: ["delete", made.ended(), "--reason", NASTY],
    "delete --list": lambda made: [made.deleted(), "delete", "--list"][1:],
    "delete (refused)": lambda made: ["delete", made.id_of(f"{PRICES} 1"), "--reason", NASTY],
    "delete --restore": lambda made: ["delete", made.deleted(), "--restore"],
    "deploy --check": lambda made: ["deploy", made.catalogue(), "--check"],
    "diff": lambda made: ["diff", made.id_of(f"{PRICES} 1"), made.id_of(f"{BOOK} 1")],
    "doctor": lambda _: ["doctor"],
    "events": lambda made: ["events", made.id_of(f"{PRICES} 1")],
    "events --follow": lambda made: ["events", made.id_of(f"{PRICES} 1"), "--follow"],
    "expiring": lambda _: ["expiring", "--before", "2999-01-01"],
    "explain KEY": lambda _: ["explain", BOOK],
    "explain RUN": lambda made: ["explain", made.ended()],
    "gc": lambda _: ["gc", "--grace", "100d"],
    "gc --dry-run": lambda _: ["gc", "--dry-run"],
    "init": lambda made: ["init", made.catalogue(), "--resource", "prices=dataset/refresh/prices"],
    "label": lambda made: ["label", made.version(), f"v{next(_numbers)}.0.0"],
    "lineage": lambda _: ["lineage", BOOK],
    "lineage --consumers": lambda _: ["lineage", f"{PRICES}@v1", "--consumers"],
    "lineage --downstream": lambda _: ["lineage", PRICES, "--downstream"],
    "lineage --impact": lambda _: ["lineage", f"{PRICES}@v1", "--impact"],
    "lineage --upstream": lambda _: ["lineage", BOOK, "--upstream"],
    "metrics": lambda made: ["metrics", made.id_of(f"{PRICES} 1")],
    "pause": lambda made: ["pause", made.running()],
    "publish": lambda made: [
        "publish",
        VENDOR,
        "--uri",
        made.vendor(),
        "--no-date-column",
        "--data-date",
        "2026-01-02",
    ],
    "replay": lambda made: ["replay", made.id_of(f"{BOOK} 1")],
    "restore": lambda made: ["restore", made.withdrawn(), "--reason", NASTY],
    "resume": lambda made: ["resume", made.paused()],
    "retention apply": lambda _: ["retention", "apply", "--yes"],
    "retention plan": lambda _: ["retention", "plan"],
    "runs": lambda _: ["runs"],
    "show": lambda made: ["show", made.id_of(f"{BOOK} 1")],
    "show (with steps)": lambda made: ["show", made.id_of(f"{PRICES} 1")],
    "show (failed)": lambda made: ["show", made.ended()],
    "stats": lambda _: ["stats", "--since", "2026-01-01"],
    "stats --trend": lambda _: ["stats", "--since", "2026-01-01", "--by", "type", "--trend"],
    "status": lambda _: ["status"],
    "submit": lambda _: ["submit", PRICES, "-p", f"note={NASTY}"],
    "submit (refused)": lambda _: ["submit", BOOK, "--on-stale", "refuse"],
    "verify": lambda _: ["verify", f"{PRICES}@v1"],
    "versions": lambda _: ["versions", PRICES],
    "versions VERSION": lambda made: ["versions", made.withdrawn()],
    "withdraw": lambda made: ["withdraw", made.version(), "--reason", NASTY],
}
"""A call of each command: what it is about is made for it, so that each can be called again, in any order.

What stands in parentheses tells calls of the same form apart.
"""
