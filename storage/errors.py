"""Every error that Freshline raises on purpose.

    FreshlineError
    ├── InvalidInput            a value that was given cannot be used
    │   ├── CatalogError        prefect.yaml, with deployment and line
    │   └── NotStorable         a value that Parquet or JSON cannot hold
    ├── NotFound                a name or id that does not exist, with the nearest names
    │   └── RunDeleted          the run was there, and somebody deleted it
    ├── Conflict                the call contradicts what is already recorded
    │   ├── IdempotencyConflict the same key with another request
    │   ├── IllegalTransition   the run's status does not allow it
    │   └── Fenced              somebody else holds the run now
    ├── UpstreamNotReady        the gate refused
    ├── StoreError              the database of records
    │   ├── StoreUnavailable    it cannot be reached
    │   ├── StoreVersion        its schema is newer or older than this program
    │   └── StoreMismatch       it is not the store that the deployment was registered in
    ├── ArtifactError           the object store
    │   ├── AccessRefused       it does not take the credentials, or there are none
    │   ├── DataRemoved         retention or a deletion took the data; the record says when and why
    │   ├── ObjectMissing       an object that a record names is not there
    │   └── ObjectCorrupt       an object's bytes are not those that were written
    ├── PrefectError            Prefect cannot be reached or answered with an error
    ├── StackError              the embedded stack cannot start
    └── MissingExtra            an optional part of Freshline is not installed

Messages say what happened, with which value, and what to do. No error carries a secret.
"""

from collections.abc import Iterable
from difflib import get_close_matches


class FreshlineError(Exception):
    """The root: catch it to catch everything that Freshline raises on purpose."""


class InvalidInput(FreshlineError):
    """A value that was given cannot be used."""


class CatalogError(InvalidInput):
    """prefect.yaml cannot be used. Nothing was deployed."""

    def __init__(self, message: str, *, deployment: str | None = None, line: int | None = None) -> None:
        self.deployment = deployment
        self.line = line
        place = f"line {line}" if line is not None else None
        subject = f"deployment {deployment!r}" if deployment else None
        where = ", ".join(part for part in (place, subject) if part)
        super().__init__(f"{where}: {message}" if where else message)


class NotStorable(InvalidInput):
    """A value that Parquet or JSON cannot hold without loss."""


class NotFound(FreshlineError):
    """A name or id that does not exist."""

    def __init__(self, what: str, name: str, *, known: Iterable[str] = ()) -> None:
        self.what = what
        self.name = name
        self.nearest = nearest_names(name, known)
        hint = f" Did you mean {' or '.join(map(repr, self.nearest))}?" if self.nearest else ""
        super().__init__(f"There is no {what} {name!r}.{hint}")


class RunDeleted(NotFound):
    """The run was there, and somebody deleted it; the message says who, why, and whether it can be restored."""

    def __init__(self, name: str, message: str) -> None:
        self.what = "run"
        self.name = name
        self.nearest = ()
        FreshlineError.__init__(self, message)


class Conflict(FreshlineError):
    """The call contradicts what is already recorded."""


class IdempotencyConflict(Conflict):
    """The same idempotency key came with another request."""


class IllegalTransition(Conflict):
    """The run's status does not allow the transition that was asked for."""


class Fenced(Conflict):
    """Somebody else holds the run now: whoever gets this must stop without publishing."""


class UpstreamNotReady(FreshlineError):
    """The gate refused the run; the reason names the upstream and why it is not ready."""


class StoreError(FreshlineError):
    """The database of records."""


class StoreUnavailable(StoreError):
    """The database cannot be reached."""


class StoreVersion(StoreError):
    """The database's schema is newer or older than this program."""


class StoreMismatch(StoreError):
    """The store that was reached is not the one that the deployment was registered in."""


class ArtifactError(FreshlineError):
    """The object store."""


class AccessRefused(ArtifactError):
    """The object store does not take the credentials, or there are none; the code is the store's own word for it."""

    def __init__(self, message: str, *, code: str) -> None:
        self.code = code
        super().__init__(message)


class DataRemoved(ArtifactError):
    """Retention or a deletion took the data; the record stays, and says when and why."""


class ObjectMissing(ArtifactError):
    """An object that a record names is not in the object store."""


class ObjectCorrupt(ArtifactError):
    """An object's bytes are not those that were written."""


class PrefectError(FreshlineError):
    """Prefect cannot be reached, or answered with an error."""


class StackError(FreshlineError):
    """The embedded stack cannot start."""


class MissingExtra(FreshlineError):
    """An optional part of Freshline is not installed; the message has the command that installs it."""


def nearest_names(name: str, known: Iterable[str]) -> tuple[str, ...]:
    """Return up to three known names that look like `name`, nearest first."""
    return tuple(get_close_matches(name, list(known), n=3, cutoff=0.5))
