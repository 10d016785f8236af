"""What a reference to stored content means, as far as storage has to know: the artifacts behind it.

Storage knows neither versions nor runs, and imports nothing of them. Whoever knows them answers (`Resolve`), and the
package says who that is when it is imported (`provide`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import TYPE_CHECKING, Protocol
from uuid import UUID

from .errors import FreshlineError

if TYPE_CHECKING:
    from .artifacts import ArtifactRecord
    from .filesystem import ObjectStore
    from .settings import Settings


@dataclass(frozen=True)
class Resolved:
    """What a reference means now."""

    name: str
    """How it is written so that it stays the same: `refresh/prices@v3`, or `run-…`."""
    objects: "ObjectStore"
    """Where the objects are."""
    artifacts: Mapping[str, "ArtifactRecord"]
    """By name, in order: all of a run's, or what a version has published."""
    run: str
    """The run that wrote them: `run-…`."""
    unpublished: tuple[str, ...] = ()
    """Names of what that run wrote and did not publish; none when it was asked for by the run."""
    warning: str | None = None
    """What a reader must know of it, such as that it was withdrawn."""


class Resolve(Protocol):
    """Says what a reference means."""

    def __call__(
        self,
        reference: str | UUID,
        *,
        data_date: date | None,
        at: datetime | str | None,
        settings: "Settings | None",
    ) -> Resolved:
        """Return what it means in the store of the settings; errors as `reading.read` documents them."""
        ...


_provided: list[Resolve] = []


def provide(resolve: Resolve) -> None:
    """Say who answers from now on."""
    _provided[:] = [resolve]


def resolve(
    reference: str | UUID,
    *,
    data_date: date | None = None,
    at: datetime | str | None = None,
    settings: "Settings | None" = None,
) -> Resolved:
    """Ask what a reference means."""
    if not _provided:
        raise FreshlineError("nobody says what a reference means: import freshline, not its storage alone")
    return _provided[0](reference, data_date=data_date, at=at, settings=settings)
