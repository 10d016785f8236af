"""Does to the store what a history says, tells the oracle the same, and compares the two after each step.

The store is changed by the program's own doors alone: the catalogue is registered, runs are submitted, claimed,
completed and failed, policies lapse when the reconciler looks. A step names what it is about by a number, which is
taken among what there is at that moment: so any part of a history is a history too.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID

from freshline.lineage import registry
from freshline.lineage.withdrawal import Judged
from freshline.runs.creation import Origin, create_run
from freshline.runs.curation import Curation
from freshline.runs.execution import RunExecution
from freshline.runs.repair.lapses import sweep
from freshline.runs.request import RunRequest
from freshline.runs.result import Read, Result
from freshline.runs.service import RunExecutionService
from freshline.storage.database import Database
from freshline.storage.errors import InvalidInput
from freshline.storage.words import OnStale, Trigger
from tests.factories import START, declared
from tests.faults.example import Clock, empty
from tests.oracle import stored
from tests.oracle.oracle import Cause, Deployment, Record, Version
from tests.oracle.steps import POLICIES, Disagreement, OpenRun, Step, table, written

MOST_READS = 3
MOST_OPEN = 5
"""Runs under way at once: more are completed before another one is claimed."""
_ROLES = ("left", "right", "third")
_FIT = ("ready", "source_delayed")
_IN_PROJECT = 2
"""Deployments that one catalogue declares: some read those of another one."""


class Player:
    """One history on one emptied store."""

    def __init__(self, database: Database, clock: Clock, graph: Sequence[Sequence[int]]) -> None:
        """Begin with a graph: for each deployment the numbers of those that it reads, all of them smaller."""
        empty(database)
        clock.now = START
        self.database, self.clock = database, clock
        self.record = Record()
        self.told: list[str] = []
        """What happened, in words."""
        self._service = RunExecutionService(database)
        self._execution = RunExecution(database)
        self._curation = Curation(database)
        self._open: list[OpenRun] = []
        self._contents = 0
        self._texts: dict[UUID, str] = {}
        self._names: dict[Any, str] = {}
        self._ids: dict[str, UUID] = {}
        self._since: stored.Since = {}
        self.seen: Counter[str] = Counter()
        """How often which freshness was judged, which cause arose, and how runs ended."""
        self._projects: dict[str, str] = {}
        for number, reads in enumerate(graph):
            key = f"refresh/n{number}"
            upstreams = [f"refresh/n{upstream}" for upstream in reads]
            self.record.deployments[key] = Deployment(key, dict(zip(_ROLES, upstreams, strict=False)))
            self._projects[key] = f"project {number // _IN_PROJECT}"
        for project in dict.fromkeys(self._projects.values()):
            self._register(project)

    def play(self, step: Step) -> None:
        """Take one step.

        Raises:
            Disagreement: the store and the oracle differ after it.
        """
        act: Callable[[Step], str] = getattr(self, f"_{step.act}")
        try:
            self.told.append(f"{step.act}: {act(step)}")
        except Exception:
            self.told.append(f"{step.act}: it raised")
            raise
        if found := self.disagreements():
            raise Disagreement("\n".join(found))

    def disagreements(self) -> list[str]:
        """Return where the store and the oracle differ now."""
        kept, since = stored.judgements(self.database)
        self.seen.update(judged.freshness for judged in kept.values())
        self.seen.update(cause.kind for _, cause in since.keys() - self._since.keys())
        found = stored.differences(self.record.judge(self.clock.now), kept)
        # A cause that stays is as old as it was; a new one arises now.
        found += [
            f"{key}: {cause.kind} arose at {at}, not at {self._since.get((key, cause), self.clock.now)}"
            for (key, cause), at in since.items()
            if at != self._since.get((key, cause), self.clock.now)
        ]
        self._since = since
        return [self._with_names(line) for line in found]

    def misrecorded(self) -> list[str]:
        """Return which lasting records are not those of what happened."""
        return [self._with_names(line) for line in stored.misrecorded(self.database, self.record)]

    # What happens to runs.

    def _publish(self, step: Step) -> str:
        return self._complete_one(self._claimed(self._present(step.a)), self._new_content(), step)

    def _publish_equal(self, step: Step) -> str:
        key = self._present(step.a)
        current = self.record.current(key)
        text = self._new_content() if current is None else self._texts[current.id]
        return self._complete_one(self._claimed(key), text, step)

    def _publish_earlier(self, step: Step) -> str:
        key = self._present(step.a)
        earlier = [version for version in self.record.versions.values() if version.deployment == key]
        text = self._texts[_among(earlier, step.b).id] if earlier else self._new_content()
        return self._complete_one(self._claimed(key), text, step)

    def _claim(self, step: Step) -> str:
        key = self._present(step.a)
        told = ""
        if len(self._open) >= MOST_OPEN:
            told = self._complete(step) + "; "
        self._open.append(self._claimed(key))
        return f"{told}{key} with fence {self._open[-1].fence}"

    def _complete(self, step: Step) -> str:
        """Any run under way: not always the one that was claimed first."""
        if not self._open:
            return self._publish(step)
        run = self._open.pop(step.b % len(self._open))
        return self._complete_one(run, self._new_content(), step)

    def _append(self, step: Step) -> str:
        """A run under way ends with what continues the version that was current when it began."""
        run = self._taken(step)
        return self._complete_one(run, self._new_content(), step, continues=run.base)

    def _fail(self, step: Step) -> str:
        run = self._taken(step)
        self._execution.fail(run.run_id, run.fence, ValueError("it broke"), "Traceback")
        return f"{run.key} with fence {run.fence}"

    def _retry(self, step: Step) -> str:
        """An attempt fails, and the next one of the same run reads what is current then."""
        run = self._taken(step)
        self._execution.fail(run.run_id, run.fence, ValueError("it broke"), "Traceback", will_retry=True)
        self._open.append(self._claimed(run.key, run.run_id))
        return f"{run.key} with fence {run.fence} goes on with fence {self._open[-1].fence}"

    def _ask_gate(self, step: Step) -> str:
        """A run that is refused unless all its upstreams are as they should be."""
        key = self._present(step.a)
        now = self.record.judge(self.clock.now)
        unfit = [
            upstream
            for upstream in self.record.deployments[key].reads.values()
            if self.record.deployments[upstream].is_retired or now[upstream].freshness not in _FIT
        ]
        submitted = self._service.submit(key, on_stale="refuse")
        told = f"{key} is {submitted.status}, with {', '.join(unfit) or 'nothing'} unfit"
        if submitted.status != ("refused" if unfit else "pending"):
            raise Disagreement(told)
        return told if unfit else f"{told}; {self._complete_one(self._claimed(key, submitted.id), 'asked', step)}"

    def _taken(self, step: Step) -> OpenRun:
        """A run under way, or a new one."""
        return self._open.pop(step.b % len(self._open)) if self._open else self._claimed(self._present(step.a))

    def _claimed(self, key: str, run_id: UUID | None = None) -> OpenRun:
        deployment = self.record.deployments[key]

        def find(connection: Any) -> tuple[Any, Any]:
            """Record the run as it is claimed, as for a start in Prefect."""
            row = registry.deployment_by_id(connection, self._ids[key])
            origin = Origin(Trigger.MANUAL, actor="somebody")
            request = RunRequest(on_stale=OnStale.FORCE)
            return create_run(connection, row, origin, parameters={}, request=request, now=self.clock.now), row

        claim = self._execution.claim(run_id or find, worker="one")
        deployment.claims += 1
        pins = {pin.role: pin.version_id for pin in claim.pins}
        known = (True, deployment.claims, self.record.pins(key))
        if (claim.may_start, claim.run.fence, pins) != known:
            told = f"the claim of {key} gave {(claim.may_start, claim.run.fence, pins)} and must give {known}"
            raise Disagreement(self._with_names(told))
        self._names[claim.run.id] = f"run {claim.run.fence} of {key}"
        return OpenRun(key, claim.run.id, claim.run.fence, claim.run.base_version_id, deployment.declaration, pins)

    def _complete_one(self, run: OpenRun, text: str, step: Step, *, continues: UUID | None = None) -> str:
        reads = dict(run.pins)
        if step.c % 8 == 0 and reads:
            del reads[_among(sorted(reads), step.d)]  # it did not need that one
        if step.c % 8 == 1:
            # What was pinned stays what is read in its role.
            reads = self._more_reads(run.key, step.d) | reads
        is_delayed = step.c % 8 == 2
        data_date = (self.clock.now - timedelta(days=step.d % 3)).date() if step.c % 8 > 2 else None
        ended = self._execution.complete(
            run.run_id,
            run.fence,
            Result(
                artifacts=[table(text, data_date)],
                reads=[Read(role, self._ids[self._reader_of(read)], read) for role, read in reads.items()],
                base_version_id=continues,
                source_delayed=is_delayed,
            ),
        )
        version = Version(
            id=ended.version_id,
            deployment=run.key,
            run=run.run_id,
            fence=run.fence,
            digest=text,
            built_with=run.built_with,
            reads=reads,
            made_at=self.clock.now,
            data_date=data_date,
            is_delayed=is_delayed,
            continues=continues,
        )
        self.record.versions[version.id] = version
        is_current = self.record.current(run.key) is version
        number = sum(other.deployment == run.key for other in self.record.versions.values())
        self._names[version.id] = f"{run.key}@v{number}"
        self._texts[version.id] = text
        self.seen[ended.stop_reason] += 1
        if ended.stop_reason != ("completed" if is_current else "superseded"):
            raise Disagreement(f"{self._names[version.id]} is {ended.stop_reason}; it is current: {is_current}")
        read = ", ".join(f"{role}={self._names[one]}" for role, one in reads.items()) or "nothing"
        base = f", continuing {self._names[continues]}" if continues else ""
        return f"{self._names[version.id]} of fence {run.fence} with {text} from {read}{base}: {ended.stop_reason}"

    def _more_reads(self, key: str, number: int) -> dict[str, UUID]:
        """What a body reads without declaring it: a deployment's current version, perhaps its own, or any by number."""
        others = [
            version
            for version in self.record.versions.values()
            if version.deployment == key or not self.record.reaches(version.deployment, key)
        ]
        if not others:
            return {}
        chosen = _among(others, number)
        current = self.record.current(chosen.deployment)
        if number % 2 or current is None:
            return {self._names[chosen.id]: chosen.id}
        if chosen.deployment != key:
            self.record.deployments[key].observed[chosen.deployment] = chosen.deployment
        return {chosen.deployment: current.id}

    def _reader_of(self, version_id: UUID) -> str:
        return self.record.versions[version_id].deployment

    # What people do to versions.

    def _withdraw(self, step: Step) -> str:
        valid = [version for version in self.record.versions.values() if not version.is_withdrawn]
        if not valid:
            return self._publish(step)
        version = _among(valid, step.a)
        version.is_withdrawn = True
        return self._judged(version, self._curation.withdraw(self._names[version.id], "it was wrong"))

    def _take_back(self, step: Step) -> str:
        """A withdrawal is undone."""
        withdrawn = [version for version in self.record.versions.values() if version.is_withdrawn]
        if not withdrawn:
            return self._withdraw(step)
        version = _among(withdrawn, step.a)
        version.is_withdrawn = False
        return self._judged(version, self._curation.restore(self._names[version.id], "it was right"))

    def _judged(self, version: Version, said: Judged) -> str:
        current = self.record.current(version.deployment)
        name = None if current is None else self._names[current.id]
        told = None if said.current is None else f"{version.deployment}@v{said.current}"
        if told != name:
            raise Disagreement(f"the current version was said to be {told} and must be {name}")
        return f"{self._names[version.id]}, the current one is {name}"

    # What happens to the catalogue.

    def _register_again(self, step: Step) -> str:
        return self._register_of(self._any(step.a))

    def _add_edge(self, step: Step) -> str:
        return self._declare_read(self._present(step.a), _among(_ROLES, step.b), self._any(step.c))

    def _remove_edge(self, step: Step) -> str:
        readers = [one for one in self.record.deployments.values() if one.declared and not one.is_retired]
        if not readers:
            return self._add_edge(step)
        reader = _among(readers, step.a)
        role = _among(sorted(reader.declared), step.b)
        del reader.declared[role]
        return f"{reader.key} does not declare {role} any more; {self._register_of(reader.key)}"

    def _declare_read(self, key: str, role: str, upstream: str) -> str:
        """Declare an edge; one that closes a cycle is refused, and nothing has changed then."""
        deployment = self.record.deployments[key]
        before = dict(deployment.declared)
        closes_cycle = self.record.reaches(upstream, key)
        deployment.declared[role] = upstream
        told = f"{key} declares that it reads {upstream} as {role}"
        if not closes_cycle:
            return f"{told}; {self._register_of(key)}"
        try:
            self._register_of(key)
        except InvalidInput:
            deployment.declared = before
            return f"{told}: refused, it closes a cycle"
        raise Disagreement(f"{told}: it closes a cycle and was not refused")

    def _change_declaration(self, step: Step) -> str:
        """Two declarations take turns: what is changed is also reverted."""
        deployment = self.record.deployments[self._present(step.a)]
        deployment.declaration = "declaration-2" if deployment.declaration == "declaration-1" else "declaration-1"
        return f"{deployment.key} has {deployment.declaration}; {self._register_of(deployment.key)}"

    def _change_policy(self, step: Step) -> str:
        deployment = self.record.deployments[self._present(step.a)]
        deployment.policy = _among(POLICIES, step.b)
        return f"{deployment.key} has {deployment.policy}; {self._register_of(deployment.key)}"

    def _retire(self, step: Step) -> str:
        deployment = self.record.deployments[self._present(step.a)]
        if sum(not one.is_retired for one in self.record.deployments.values()) == 1:
            return self._restore(step)
        deployment.is_retired = True
        return f"{deployment.key}; {self._register_of(deployment.key)}"

    def _restore(self, step: Step) -> str:
        retired = [one for one in self.record.deployments.values() if one.is_retired]
        if not retired:
            return self._retire(step)
        deployment = _among(retired, step.a)
        deployment.is_retired = False
        return f"{deployment.key}; {self._register_of(deployment.key)}"

    def _register_of(self, key: str) -> str:
        return self._register(self._projects[key])

    def _register(self, project: str) -> str:
        catalogue = [
            replace(
                declared(one.key, one.declared, digest=one.declaration, policy=written(one.policy)),
                prefect_deployment_id=None,
            )
            for one in self.record.deployments.values()
            if not one.is_retired and self._projects[one.key] == project
        ]
        now = self.clock.now
        done = self.database.write(
            lambda connection: registry.register(connection, catalogue, tenant_id="default", project=project, now=now)
        )
        if done.created:
            with self.database.read() as connection:
                self._ids = {row.key: row.id for row in registry.deployments(connection, tenant_id="default")}
        return f"{project} registered, {len(done.changed)} changed"

    # What time does.

    def _expire(self, step: Step) -> str:
        """Time passes, and the reconciler looks: it finds each lapse once."""
        known = {key for key, cause in self._since if cause.kind == "expired"}
        self.clock.now += timedelta(hours=step.a % 30)
        due = {key for key, one in self.record.judge(self.clock.now).items() if Cause("expired") in one.causes} - known
        lapsed = sweep(self.database)
        told = f"it is {self.clock.now:%d %H:%M}, {lapsed} lapsed"
        if lapsed != len(due):
            raise Disagreement(f"{told}, and it must be {len(due)}: {', '.join(sorted(due)) or 'none'}")
        return told

    # How a number chooses.

    def _any(self, number: int) -> str:
        return _among(list(self.record.deployments), number)

    def _present(self, number: int) -> str:
        return _among([key for key, one in self.record.deployments.items() if not one.is_retired], number)

    def _new_content(self) -> str:
        self._contents += 1
        return f"content {self._contents}"

    def _with_names(self, text: str) -> str:
        for one, name in self._names.items():
            text = text.replace(str(one), name)
        return text


def _among(items: Any, number: int) -> Any:
    return items[number % len(items)]
