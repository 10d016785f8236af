"""The rule of freshness a second time: answered from the whole record of what happened, and from nothing else.

Written from what the rule promises to people, so that it can disagree with the program: it imports nothing of it.
It knows no propagation, no order of updates and no earlier answer. Every question is answered from scratch, out of what
was declared, read, published, withdrawn and retired until now; the words are those that people read.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from functools import cache
from typing import Any, NamedTuple


class Cause(NamedTuple):
    """One reason, and what it is about."""

    kind: str
    role: str = ""
    upstream: str | None = None
    """Key of the upstream that it is about."""
    origin_run: Any = None
    origin_version: Any = None
    """The run and the version that brought it, when such brought it."""


@dataclass(frozen=True)
class Policy:
    """A version holds for a while, counted from when it was made or from the end of its last data date."""

    max_age: timedelta
    grace: timedelta = timedelta(0)
    of_data: bool = False

    def lapse_of(self, made_at: datetime, data_date: date | None) -> datetime | None:
        """Return when it ceases to hold; never, when it has no data date to count from."""
        if not self.of_data:
            return made_at + self.max_age + self.grace
        if data_date is None:
            return None
        return datetime.combine(data_date, time(), UTC) + timedelta(days=1) + self.max_age + self.grace


@dataclass
class Deployment:
    """What is known of a deployment besides its versions."""

    key: str
    declared: dict[str, str] = field(default_factory=dict)
    """Role -> upstream, as the catalogue says."""
    observed: dict[str, str] = field(default_factory=dict)
    """Role -> upstream, as runs have read it."""
    declaration: str = "declaration-1"
    policy: Policy | None = None
    is_retired: bool = False
    claims: int = 0
    """How many runs have pinned their inputs: the fence of the last one."""

    @property
    def reads(self) -> Mapping[str, str]:
        """Role -> upstream; what is declared counts where both speak."""
        return {**self.observed, **self.declared}


@dataclass
class Version:
    """What a completed run published."""

    id: Any
    deployment: str
    run: Any
    fence: int
    digest: str
    built_with: str
    """The declaration when its run pinned its inputs."""
    reads: Mapping[str, Any]
    """Role -> id of the version that it read."""
    made_at: datetime
    data_date: date | None = None
    is_delayed: bool = False
    """The source had nothing new."""
    continues: Any = None
    """Id of the version that it was appended to; none when it stands for itself."""
    is_withdrawn: bool = False
    is_aside: bool = False
    """It was made never to be the current one, as by a replay."""


class Judgement(NamedTuple):
    """All that is to be stored of a deployment."""

    freshness: str
    causes: frozenset[Cause]
    current: Any
    """Id of the current version."""
    lapses_at: datetime | None


@dataclass
class Record:
    """All that ever happened."""

    deployments: dict[str, Deployment] = field(default_factory=dict)
    versions: dict[Any, Version] = field(default_factory=dict)
    """By id, in the order in which they were published."""

    def current(self, key: str) -> Version | None:
        """The version of whoever pinned its inputs last; one that continues another counts only where that was current.

        Versions that were withdrawn are passed over, as if they had never been there.
        """
        newest: Version | None = None
        for version in self.versions.values():
            if version.deployment != key or version.is_withdrawn or version.is_aside:
                continue
            is_newer = newest is None or version.fence > newest.fence
            continues_it = version.continues is None or (newest is not None and version.continues == newest.id)
            if is_newer and continues_it:
                newest = version
        return newest

    def pins(self, key: str) -> dict[str, Any]:
        """Role -> the version that a run would read now."""
        found = {role: self.current(upstream) for role, upstream in self.deployments[key].reads.items()}
        return {role: version.id for role, version in found.items() if version is not None}

    def reaches(self, key: str, other: str) -> bool:
        """Whether `key` reads `other`, directly or through others, or is it."""
        reached, ahead = {key}, [key]
        while ahead:
            new = set(self.deployments[ahead.pop()].reads.values()) - reached
            reached |= new
            ahead += new
        return other in reached

    def judge(self, now: datetime) -> dict[str, Judgement]:
        """Say of every deployment what is true of it now."""
        current = cache(self.current)

        @cache
        def causes(key: str) -> frozenset[Cause]:
            version, deployment = current(key), self.deployments[key]
            if version is None:
                return frozenset()
            found = set()
            if version.built_with != deployment.declaration:
                found.add(Cause("declaration_changed"))
            lapses_at = self._lapse(key)
            if lapses_at is not None and lapses_at <= now:
                found.add(Cause("expired"))
            for role, read in version.reads.items():
                if self.versions[read].is_withdrawn:
                    found.add(Cause("withdrawn", role, self.versions[read].deployment, None, read))
            for role, upstream in deployment.reads.items():
                newest = current(upstream)
                if self.deployments[upstream].is_retired:
                    # Of what is not there any more there is nothing else to say.
                    found.add(Cause("missing_input", role, upstream))
                    continue
                read = self.versions.get(version.reads.get(role))
                if newest is None:
                    # What was read has not been withdrawn itself, and holds no more: it continued what was.
                    if read is not None and read.deployment == upstream and not read.is_withdrawn:
                        found.add(Cause("input_changed", role, upstream))
                    continue
                # A role that means another upstream now has read nothing of it yet.
                if read is not None and read.deployment == upstream and read.digest != newest.digest:
                    found.add(Cause("input_changed", role, upstream, newest.run, newest.id))
                if causes(upstream):
                    found.add(Cause("upstream_stale", role, upstream, newest.run, newest.id))
            return frozenset(found)

        def judged(key: str) -> Judgement:
            version = current(key)
            if version is None:
                return Judgement("not_initialized", frozenset(), None, None)
            ready = "source_delayed" if version.is_delayed else "ready"
            return Judgement("stale" if causes(key) else ready, causes(key), version.id, self._lapse(key))

        return {key: judged(key) for key in self.deployments}

    def _lapse(self, key: str) -> datetime | None:
        version, policy = self.current(key), self.deployments[key].policy
        if version is None or policy is None:
            return None
        return policy.lapse_of(version.made_at, version.data_date)
