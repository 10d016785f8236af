"""Whether what is stored is still what was written, and whose it is when it is not.

Looks at objects in the order of their names, so that it can go on behind the last one. What was found is recorded with
the object: when it was verified, and what was wrong. Repairs nothing.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from ...lineage import questions
from ...lineage.models import Deployment, Version
from ...storage import gc, verification
from ...storage.artifacts import ArtifactRecord, artifacts_of
from ...storage.database import Database
from ...storage.errors import InvalidInput
from ...storage.filesystem import ObjectStore
from ...storage.ids import show_run_id
from ...storage.models import Artifact, ArtifactObject, StoredObject
from ...storage.referenced import store_of
from ...storage.stored import StoredTable
from .. import store
from . import acts

_OBJECT = StoredObject.__table__  # type: ignore[attr-defined]
_ARTIFACT = Artifact.__table__  # type: ignore[attr-defined]
_LINK = ArtifactObject.__table__  # type: ignore[attr-defined]
_VERSION = Version.__table__  # type: ignore[attr-defined]
_DEPLOYMENT = Deployment.__table__  # type: ignore[attr-defined]
_BATCH = 200
_AT_ONCE = 8
_MOST_BITS = 1 << 64


@dataclass(frozen=True)
class How:
    """How thoroughly to look."""

    reads: bool = True
    """Read every byte; else only whether the object is there and has its size."""
    digests: bool = False
    """Also compute the logical digest of every table anew."""
    share: float = 1.0
    """Of the objects, above 0 and up to 1; which ones follows from the seed."""
    seed: int = 0

    def check(self) -> "How":
        """Return it when it can be used.

        Raises:
            InvalidInput: the share is not above 0 and up to 1.
        """
        if not 0 < self.share <= 1:
            raise InvalidInput(f"the share {self.share:g} is not above 0 and up to 1: write 5% or 0.05")
        return self

    def takes(self, name: str) -> bool:
        """Return whether an object is among those that are looked at: the same ones for the same seed."""
        if self.share == 1:
            return True
        drawn = hashlib.sha256(f"{self.seed}:{name}".encode()).digest()[:8]
        return int.from_bytes(drawn) < self.share * _MOST_BITS


@dataclass(frozen=True)
class Damage:
    """An object, or a table, that is not what was written, for one of those to whom it belongs."""

    object: str
    """Its name; of what lies elsewhere its URL; of a table whose digest is wrong empty."""
    fact: str
    """What is wrong."""
    artifact: str
    run_id: UUID
    reference: str
    """The version that it belongs to, `refresh/prices@v3`, or else its run."""


@dataclass(frozen=True)
class Verified:
    """What was found."""

    objects: int
    """Objects that were looked at."""
    size_bytes: int
    """Their bytes."""
    tables: int
    """Tables whose digest was computed anew."""
    damaged: tuple[Damage, ...]
    """The damage, once for each artifact that has it."""
    last: str | None
    """Name of the last object that was passed, looked at or not; to go on, say that it is to be behind it."""


@dataclass(frozen=True)
class _Target:
    name: str
    sha256: str
    size_bytes: int
    at: ObjectStore
    of: tuple[UUID, str] | None = None
    """Run and artifact that refer to it where it is; none: it is an object of ours."""

    @property
    def is_ours(self) -> bool:
        return self.of is None


Watch = Callable[[int, int, str], None]
"""Told how many of how many objects are done, and the name of the last one."""


@dataclass(frozen=True)
class Verifier:
    """Verifies the objects of a store, those of one version or run, or all of them."""

    database: Database
    objects: ObjectStore
    tenant_id: str = "default"

    def verify(self, reference: str, how: How | None = None, *, watch: Watch = lambda *_: None) -> Verified:
        """Verify what a version (`refresh/prices@v3`) or a run (`run-…`) has stored, also where it is only referenced.

        Raises:
            NotFound: there is no such version or run; or it was deleted.
            DataRemoved: retention removed its data.
            ArtifactError: an object store does not answer.
        """
        how = (how or How()).check()
        with self.database.read() as connection:
            run_id = self._run_of(connection, reference)
            artifacts = artifacts_of(connection, run_id)
        targets = [target for one in artifacts for target in self._targets(run_id, one)]
        by_name = {(target.at.url, target.name): target for target in targets if how.takes(target.name)}
        found = self._look(sorted(by_name.values(), key=lambda one: one.name), how, len(by_name), watch)
        return self._with_digests(found, [(run_id, one) for one in artifacts], how)

    def verify_all(
        self,
        how: How | None = None,
        *,
        after: str | None = None,
        watch: Watch = lambda *_: None,
        so_far: Callable[[Verified], None] = lambda _: None,
    ) -> Verified:
        """Verify every object of the store that an artifact needs, whoever's it is; with `after`, those behind it.

        `so_far` is told what was found whenever some of it is recorded: who is cut short can go on behind its `last`.

        Raises:
            ArtifactError: the object store does not answer; what was verified until then is recorded.
        """
        how = (how or How()).check()
        needed = sa.and_(_OBJECT.c.swept_at.is_(None), gc.is_needed(_OBJECT))
        with self.database.read() as connection:
            count = sa.select(sa.func.count()).select_from(_OBJECT).where(needed)
            if after is not None:
                count = count.where(_OBJECT.c.name > after)
            total = connection.execute(count).scalar_one()
        found = Verified(0, 0, 0, (), after)
        passed = 0
        while True:
            query = sa.select(_OBJECT.c.name, _OBJECT.c.sha256, _OBJECT.c.size_bytes).where(needed)
            if found.last is not None:
                query = query.where(_OBJECT.c.name > found.last)
            with self.database.read() as connection:
                rows = connection.execute(query.order_by(_OBJECT.c.name).limit(_BATCH)).all()
            if not rows:
                break
            targets = [_Target(row.name, row.sha256, row.size_bytes, self.objects) for row in rows]
            taken = [target for target in targets if how.takes(target.name)]
            part = self._look(taken, how, total, watch, base=passed)
            passed += len(rows)
            found = _sum(found, replace(part, last=rows[-1].name))
            so_far(found)
        if how.digests:
            found = self._with_digests(found, self._tables(), how)
        return found

    def _look(self, targets: Sequence[_Target], how: How, total: int, watch: Watch, *, base: int = 0) -> Verified:
        look = partial(_damage, reads=how.reads)
        wrong: list[tuple[_Target, str]] = []
        size_bytes = 0
        for start in range(0, len(targets), _BATCH):
            part = targets[start : start + _BATCH]
            with ThreadPoolExecutor(_AT_ONCE) as executor:
                facts = []
                for done, (target, fact) in enumerate(zip(part, executor.map(look, part), strict=True), start=1):
                    facts.append((target, fact))
                    watch(base + start + done, total, target.name)
            wrong += self._record(facts)
            size_bytes += sum(target.size_bytes for target in part)
        with self.database.read() as connection:
            damaged = [one for target, fact in wrong for one in _owners(connection, target, fact)]
        return Verified(len(targets), size_bytes, 0, tuple(damaged), targets[-1].name if targets else None)

    def _record(self, facts: Iterable[tuple[_Target, str | None]]) -> list[tuple[_Target, str]]:
        """Write what was found beside the objects of ours; return the damage of what is still needed."""
        looked = list(facts)

        def work(connection: Connection) -> set[str]:
            now = self.database.now(connection)
            there = set()
            for target, fact in looked:
                if target.is_ours:
                    is_it = sa.and_(_OBJECT.c.name == target.name, _OBJECT.c.swept_at.is_(None))
                    values = {"verified_at": now, "damage": fact}
                    if connection.execute(sa.update(_OBJECT).where(is_it).values(values)).rowcount:
                        there.add(target.name)
            return there

        there = self.database.write(work)
        # What was swept meanwhile is not missing: nobody needed it.
        return [
            (target, fact)
            for target, fact in looked
            if fact is not None and (not target.is_ours or target.name in there)
        ]

    def _with_digests(self, found: Verified, artifacts: Iterable[tuple[UUID, ArtifactRecord]], how: How) -> Verified:
        if not how.digests:
            return found
        tables, damaged = 0, list(found.damaged)
        known = {(one.run_id, one.artifact) for one in found.damaged}
        for run_id, artifact in artifacts:
            if not isinstance(artifact.stored, StoredTable) or artifact.removed_reason is not None:
                continue
            if not how.takes(f"{run_id}:{artifact.name}") or (run_id, artifact.name) in known:
                continue
            tables += 1
            fact = verification.digest_damage_of(self.objects, artifact.stored)
            if fact is not None:
                with self.database.read() as connection:
                    damaged.append(Damage("", fact, artifact.name, run_id, _reference(connection, run_id)))
        return replace(found, tables=tables, damaged=tuple(damaged))

    def _tables(self) -> Iterator[tuple[UUID, ArtifactRecord]]:
        """Yield every artifact that has objects of ours, run by run."""
        linked = sa.exists().where(_LINK.c.artifact_id == _ARTIFACT.c.id)
        query = sa.select(_ARTIFACT.c.owner_id).distinct().where(linked, _ARTIFACT.c.removed_at.is_(None))
        with self.database.read() as connection:
            owners = sorted(connection.execute(query).scalars())
        for owner_id in owners:
            with self.database.read() as connection:
                artifacts = artifacts_of(connection, owner_id)
            yield from ((owner_id, one) for one in artifacts)

    def _run_of(self, connection: Connection, reference: str) -> UUID:
        if questions.is_run(reference):
            run = store.get_run(connection, questions.run_named(reference))
            acts.refuse_deleted(connection, run)
            return run.id  # type: ignore[no-any-return]  # a row's column
        version_id = questions.version_named(connection, reference, tenant_id=self.tenant_id)
        query = sa.select(_VERSION.c.run_id).where(_VERSION.c.id == version_id)
        found: UUID = connection.execute(query).scalar_one()
        return found

    def _targets(self, run_id: UUID, artifact: ArtifactRecord) -> Iterator[_Target]:
        stored = artifact.stored_table() if isinstance(artifact.stored, StoredTable) else artifact.stored_content()
        at = store_of(self.objects, stored)
        for part in artifact.objects:
            of = None if stored.root is None else (run_id, artifact.name)
            yield _Target(part.name, part.sha256, part.size_bytes, at, of)


def _damage(target: _Target, *, reads: bool) -> str | None:
    return verification.damage_of(
        target.at, target.name, sha256=target.sha256, size_bytes=target.size_bytes, reads=reads
    )


def _owners(connection: Connection, target: _Target, fact: str) -> list[Damage]:
    if target.of is not None:
        run_id, name = target.of
        return [Damage(target.at.url_of(target.name), fact, name, run_id, _reference(connection, run_id))]
    query = (
        sa.select(_ARTIFACT.c.owner_id, _ARTIFACT.c.name)
        .distinct()
        .join(_LINK, _LINK.c.artifact_id == _ARTIFACT.c.id)
        .where(_LINK.c.object_name == target.name)
        .order_by(_ARTIFACT.c.owner_id, _ARTIFACT.c.name)
    )
    return [
        Damage(target.name, fact, row.name, row.owner_id, _reference(connection, row.owner_id))
        for row in connection.execute(query).all()
    ]


def _reference(connection: Connection, run_id: UUID) -> str:
    query = (
        sa.select(_DEPLOYMENT.c.key, _VERSION.c.number)
        .join(_VERSION, _VERSION.c.deployment_id == _DEPLOYMENT.c.id)
        .where(_VERSION.c.run_id == run_id)
    )
    row: Any = connection.execute(query).one_or_none()
    return show_run_id(run_id) if row is None else f"{row.key}@v{row.number}"


def _sum(a: Verified, b: Verified) -> Verified:
    return Verified(
        a.objects + b.objects,
        a.size_bytes + b.size_bytes,
        a.tables + b.tables,
        (*a.damaged, *b.damaged),
        b.last,
    )
