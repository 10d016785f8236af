"""References to versions: how a text such as `training/alpha@champion` is read, and which version it means.

    refresh/prices            the current version
    refresh/prices@v12        by number
    refresh/prices@v1.2.3     by label
    refresh/prices@champion   by alias

The three forms behind the `@` exclude each other: a label has two dots, an alias does not begin with `v` and a digit.
"""

import re
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from ..storage.errors import InvalidInput, NotFound
from . import versions
from .models import Alias, Deployment, Version

_VERSION = Version.__table__  # type: ignore[attr-defined]
_DEPLOYMENT = Deployment.__table__  # type: ignore[attr-defined]
_ALIAS = Alias.__table__  # type: ignore[attr-defined]

_NUMBER = re.compile(r"v([0-9]+)")
_LABEL = re.compile(r"v(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)(-[0-9A-Za-z]+([.-][0-9A-Za-z]+)*)?")
_ALIAS_NAME = re.compile(r"[a-z][a-z0-9_-]*")
_LIKE_A_NUMBER = re.compile(r"v([0-9]|$)")
_RESERVED = frozenset({"current", "latest", "newest"})
_MOST_CHARACTERS = 64
_MOST_DIGITS = 9
_NEAREST = 20


@dataclass(frozen=True)
class Reference:
    """A reference as it was written; at most one of number, label and alias is there."""

    key: str
    """The deployment."""
    number: int | None = None
    label: str | None = None
    alias: str | None = None

    @property
    def is_current(self) -> bool:
        """True when it means the current version, whichever that is."""
        return self.number is None and self.label is None and self.alias is None


def parse(text: str) -> Reference:
    """Return what a reference says, without looking whether it exists.

    Raises:
        InvalidInput: the text is no reference to a version.
    """
    key, at, which = text.partition("@")
    if not key or "@" in which or (at and not which) or not text.isprintable():
        raise InvalidInput(
            f"{text!r} is no version; write refresh/prices, refresh/prices@v12, refresh/prices@v1.2.3 (a label) "
            "or refresh/prices@champion (an alias)"
        )
    if not at:
        return Reference(key)
    if (number := _NUMBER.fullmatch(which)) is not None:
        if len(number[1]) > _MOST_DIGITS:
            raise NotFound("version", text)
        return Reference(key, number=int(number[1]))
    if _LABEL.fullmatch(which):
        return Reference(key, label=which)
    if _ALIAS_NAME.fullmatch(which) and not _LIKE_A_NUMBER.match(which):
        return Reference(key, alias=which)
    raise InvalidInput(
        f"{text!r}: {which!r} is neither a number like v12, nor a label like v1.2.3, nor an alias like champion"
    )


def check_label(label: str) -> str:
    """Return the label when it is one.

    Raises:
        InvalidInput: it is not three numbers behind a `v`, such as `v1.2.3` or `v1.2.3-rc.1`.
    """
    if len(label) > _MOST_CHARACTERS or _LABEL.fullmatch(label) is None:
        raise InvalidInput(
            f"{label[:80]!r} is no label; write three numbers behind a v, such as v1.2.3 or v1.2.3-rc.1: "
            "v1 alone is the number of a version"
        )
    return label


def check_alias(name: str) -> str:
    """Return the alias when it is one.

    Raises:
        InvalidInput: it could be taken for a number, a label or the current version, or has other characters.
    """
    if _LIKE_A_NUMBER.match(name):
        raise InvalidInput(f"{name[:80]!r} cannot be an alias: it looks like the number or the label of a version")
    if name in _RESERVED:
        raise InvalidInput(
            f"{name!r} cannot be an alias: the {name} version is meant by the deployment's key, without anything behind"
        )
    if len(name) > _MOST_CHARACTERS or _ALIAS_NAME.fullmatch(name) is None:
        raise InvalidInput(
            f"{name[:80]!r} cannot be an alias; write up to {_MOST_CHARACTERS} lower-case letters, digits, - and _, "
            "a letter first, such as champion"
        )
    return name


def resolve(connection: Connection, reference: str, *, tenant_id: str) -> Row[Any]:
    """Return the row of the version that a reference means; a withdrawn one too.

    Raises:
        InvalidInput: the text is no reference to a version.
        NotFound: there is no such deployment, version, label or alias; the message has those that come near.
    """
    found = parse(reference)
    deployment_id = deployment_of(connection, found.key, tenant_id=tenant_id)
    if found.is_current:
        row = versions.current_version(connection, deployment_id)
    elif found.alias is not None:
        row = _by_alias(connection, deployment_id, found)
    else:
        is_it = _VERSION.c.label == found.label if found.number is None else _VERSION.c.number == found.number
        row = connection.execute(sa.select(_VERSION).where(_of(deployment_id), is_it)).one_or_none()
    if row is None:
        raise NotFound("version", reference, known=_known(connection, deployment_id, found))
    return row


def deployment_of(connection: Connection, key: str, *, tenant_id: str) -> UUID:
    """Return the id of a deployment, a retired one too: its versions stay.

    Raises:
        NotFound: with the nearest keys.
    """
    is_tenants = _DEPLOYMENT.c.tenant_id == tenant_id
    query = sa.select(_DEPLOYMENT.c.id).where(is_tenants, _DEPLOYMENT.c.key == key)
    found: UUID | None = connection.execute(query).scalar_one_or_none()
    if found is None:
        known = connection.execute(sa.select(_DEPLOYMENT.c.key).where(is_tenants)).scalars()
        raise NotFound("deployment", key, known=known)
    return found


def unknown_alias(connection: Connection, deployment_id: UUID, reference: Reference) -> NotFound:
    """Return the error that says which aliases the deployment has."""
    query = sa.select(_ALIAS.c.name).where(_ALIAS.c.deployment_id == deployment_id).order_by(_ALIAS.c.name)
    names = list(connection.execute(query).scalars())
    has = f"its aliases are {', '.join(names)}" if names else "it has none"
    return NotFound(f"alias of {reference.key} ({has})", str(reference.alias), known=names)


def _by_alias(connection: Connection, deployment_id: UUID, reference: Reference) -> Row[Any]:
    query = (
        sa.select(_VERSION)
        .join(_ALIAS, _ALIAS.c.version_id == _VERSION.c.id)
        .where(_ALIAS.c.deployment_id == deployment_id, _ALIAS.c.partition == "", _ALIAS.c.name == reference.alias)
    )
    row = connection.execute(query).one_or_none()
    if row is None:
        raise unknown_alias(connection, deployment_id, reference)
    return row


def _of(deployment_id: UUID) -> sa.ColumnElement[bool]:
    return sa.and_(_VERSION.c.deployment_id == deployment_id, _VERSION.c.partition == "")


def _known(connection: Connection, deployment_id: UUID, reference: Reference) -> list[str]:
    """Return the newest references of the kind that was written."""
    if reference.is_current:
        return []
    column = _VERSION.c.label if reference.label is not None else _VERSION.c.number
    query = sa.select(column).where(_of(deployment_id), column.is_not(None)).order_by(_VERSION.c.number.desc())
    shown = connection.execute(query.limit(_NEAREST)).scalars()
    return [f"{reference.key}@{one if reference.label is not None else f'v{one}'}" for one in shown]
