"""What people say of versions: aliases, labels, withdrawals. One transaction each, with who and why.

Owns the use cases: how a reference is read, what follows for runs that wait. The rules are in `lineage`.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar
from uuid import UUID

from sqlalchemy.engine import Connection, Row

from ..lineage import acts, aliases, history, references, withdrawal
from ..lineage.aliases import AliasRecord, AliasStep
from ..lineage.history import VersionRecord
from ..lineage.listing import Listing
from ..lineage.withdrawal import Judged
from ..storage.database import Database
from ..storage.errors import InvalidInput
from .ending import release_waiting

T = TypeVar("T")

_LOGGER = logging.getLogger(__name__)
_MOST_CHARACTERS = 2000
_MOST_VERSIONS = 10_000


@dataclass(frozen=True)
class VersionHistory:
    """A version with all that was done to it after it was published."""

    version: VersionRecord
    acts: tuple[acts.Act, ...]
    """The first act first."""


@dataclass(frozen=True)
class Curation:
    """The versions of a store, and what people say of them."""

    database: Database
    tenant_id: str = "default"

    def versions(self, deployment: str, *, limit: int = 50, before: int | None = None) -> Listing[VersionRecord]:
        """Return the versions of a deployment, newest first; those with a number below `before`, if given.

        Raises:
            NotFound: there is no such deployment; the message suggests the nearest keys.
            InvalidInput: the limit is not a number from 1 to 10,000.
        """
        if isinstance(limit, bool) or not isinstance(limit, int) or not 1 <= limit <= _MOST_VERSIONS:
            raise InvalidInput(f"limit={limit!r} is not a number from 1 to {_MOST_VERSIONS:,}")
        with self.database.read() as connection:
            found = references.deployment_of(connection, deployment, tenant_id=self.tenant_id)
            return history.versions_of(connection, found, key=deployment, limit=limit, before=before)

    def version(self, reference: str) -> VersionHistory:
        """Return one version and what was done to it: by number, label or alias, or the current one.

        Raises:
            NotFound: there is no such version.
        """
        with self.database.read() as connection:
            row = references.resolve(connection, reference, tenant_id=self.tenant_id)
            return VersionHistory(_record_of(connection, reference, row), tuple(acts.acts_of(connection, row.id)))

    def aliases(self, deployment: str) -> list[AliasRecord]:
        """Return the aliases of a deployment, by name."""
        with self.database.read() as connection:
            found = references.deployment_of(connection, deployment, tenant_id=self.tenant_id)
            return aliases.aliases_of(connection, found)

    def alias_moves(self, alias: str) -> list[AliasStep]:
        """Return every move of an alias such as `training/alpha@champion`, the first one first; removed ones too.

        Raises:
            NotFound: the deployment never had such an alias.
        """
        wanted = _alias(alias)
        with self.database.read() as connection:
            found = references.deployment_of(connection, wanted.key, tenant_id=self.tenant_id)
            return aliases.moves_of(connection, found, wanted)

    def set_alias(
        self, version: str, name: str, *, expected: int | None = None, actor: str = "anonymous", reason: str = ""
    ) -> VersionRecord:
        """Let the alias `name` of the version's deployment name this version; return the version.

        With `expected` only if the alias names the version of that number now; 0: if there is no such alias yet. An
        alias that names the version already is left as it is, whatever was expected.

        Raises:
            InvalidInput: the name cannot be an alias.
            NotFound: there is no such version.
            Conflict: the alias does not name what was expected, or the version was withdrawn.
        """
        _check_expected(expected)
        actor, reason = said(actor, "actor", required=True), said(reason, "reason")
        references.check_alias(name)

        def work(connection: Connection, now: datetime) -> tuple[VersionRecord, bool]:
            row = references.resolve(connection, version, tenant_id=self.tenant_id)
            moved = aliases.set_alias(
                connection,
                row,
                name,
                key=references.parse(version).key,
                expected=expected,
                actor=actor,
                reason=reason,
                now=now,
            )
            return _record_of(connection, version, row), moved

        found, moved = self._write(work)
        if moved:
            _LOGGER.info("%s@%s names v%s now, by %s", found.key, name, found.number, actor)
        return found

    def remove_alias(
        self, alias: str, *, expected: int | None = None, actor: str = "anonymous", reason: str = ""
    ) -> int:
        """Remove an alias such as `training/alpha@champion`; return the number of the version that it named.

        Raises:
            NotFound: there is no such alias; the message names those that there are.
            Conflict: it does not name the version of the number `expected`.
        """
        _check_expected(expected)
        actor, reason = said(actor, "actor", required=True), said(reason, "reason")
        wanted = _alias(alias)

        def work(connection: Connection, now: datetime) -> int:
            found = references.deployment_of(connection, wanted.key, tenant_id=self.tenant_id)
            return aliases.remove_alias(
                connection, found, wanted, expected=expected, actor=actor, reason=reason, now=now
            )

        number = self._write(work)
        _LOGGER.info("%s was removed from v%s, by %s", alias, number, actor)
        return number

    def label(self, version: str, label: str, *, actor: str = "anonymous", reason: str = "") -> VersionRecord:
        """Give a version its label, such as `v1.2.3`, once and for good; return the version.

        Raises:
            InvalidInput: the text is no label, or `version` does not say which one.
            NotFound: there is no such version.
            Conflict: the version has another label, or another version of the deployment has this one.
        """
        actor, reason = said(actor, "actor", required=True), said(reason, "reason")
        references.check_label(label)

        def work(connection: Connection, now: datetime) -> VersionRecord:
            row = self._named(connection, version, "label")
            key = references.parse(version).key
            acts.label(connection, row, label, key=key, reason=reason, actor=actor, now=now)
            return _record_of(connection, version, row)

        found = self._write(work)
        _LOGGER.info("%s has the label %s, by %s", found.reference, label, actor)
        return found

    def withdraw(self, version: str, reason: str, *, actor: str = "anonymous") -> Judged:
        """Declare a version wrong; the current one is then the newest that holds, and whoever read it is stale.

        Of a version that was withdrawn already nothing changes: its first reason stays.

        Raises:
            InvalidInput: there is no reason, or `version` does not say which one by its number or label.
            NotFound: there is no such version.
        """
        return self._judge(withdrawal.withdraw, version, "withdraw", reason, actor)

    def restore(self, version: str, reason: str, *, actor: str = "anonymous") -> Judged:
        """Take a withdrawal back: the pointer and the causes are as if it had not been.

        Raises:
            InvalidInput: there is no reason, or `version` does not say which one by its number or label.
            NotFound: there is no such version.
        """
        return self._judge(withdrawal.restore, version, "restore", reason, actor)

    def _judge(self, judge: Callable[..., Judged], version: str, verb: str, reason: str, actor: str) -> Judged:
        actor, reason = said(actor, "actor", required=True), said(reason, "reason", required=True)

        def work(connection: Connection, now: datetime) -> Judged:
            row = self._named(connection, version, verb)
            judged = judge(connection, row, reason=reason, actor=actor, now=now)
            # What is ready again without a run lets those go on that waited for it.
            release_waiting(connection, changed=[change.deployment_id for change in judged.changes], now=now)
            return judged

        judged = self._write(work)
        if judged.is_new:
            _LOGGER.info("%s was %s, by %s: %s", version, judged.verdict.value, actor, reason)
        return judged

    def _named(self, connection: Connection, version: str, verb: str) -> Row[Any]:
        row = references.resolve(connection, version, tenant_id=self.tenant_id)
        said = references.parse(version)
        if said.is_current or said.alias is not None:
            # What the text means may have moved since whoever wrote it looked, and this is not undone unnoticed.
            raise InvalidInput(
                f"say which version of {said.key} to {verb}: {version} is {said.key}@v{row.number} at this moment"
            )
        return row

    def _write(self, work: Callable[[Connection, datetime], T]) -> T:
        return self.database.write(lambda connection: work(connection, self.database.now(connection)))


def _record_of(connection: Connection, reference: str, row: Row[Any]) -> VersionRecord:
    key = references.parse(reference).key
    deployment_id: UUID = row.deployment_id
    return history.versions_of(connection, deployment_id, key=key, limit=1, only=[row.id])[0]


def _alias(text: str) -> references.Reference:
    found = references.parse(text)
    if found.alias is None:
        raise InvalidInput(f"{text!r} names no alias; write it like training/alpha@champion")
    return found


def _check_expected(expected: int | None) -> None:
    if expected is not None and (isinstance(expected, bool) or not isinstance(expected, int) or expected < 0):
        raise InvalidInput(f"expected={expected!r} must be the number of a version, or 0 for none")


def said(text: str, what: str, *, required: bool = False) -> str:
    """Return what somebody wrote, as both databases can keep it."""
    said = text.strip()
    if required and not said:
        raise InvalidInput(f"say the {what}: it is recorded, and others will look for it")
    if len(said) > _MOST_CHARACTERS:
        raise InvalidInput(f"the {what} has {len(said):,} characters; at most {_MOST_CHARACTERS:,}")
    if "\0" in said or any("\ud800" <= character <= "\udfff" for character in said):
        raise InvalidInput(f"the {what} has a NUL character or a lone surrogate, which no database keeps")
    return said
