"""What is said of a deletion: which runs are meant, which went, which stay and why, and what can be restored."""

from dataclasses import dataclass
from datetime import date, datetime
from uuid import UUID

from ...storage.errors import InvalidInput
from ...storage.ids import show_run_id
from ..status import TERMINAL
from . import ties


@dataclass(frozen=True)
class Doomed:
    """A run that is deleted now, or would be."""

    run_id: UUID
    deployment: str
    version: int | None
    """Number of the version that it published."""
    status: str
    ended_at: datetime
    size_bytes: int
    """Bytes of its artifacts, those shared with others included."""


@dataclass(frozen=True)
class Refused:
    """A run that cannot be deleted, and why not."""

    run_id: UUID
    deployment: str
    reasons: tuple[str, ...]

    def sentence(self) -> str:
        """Return it as one sentence."""
        return f"{show_run_id(self.run_id)} of {self.deployment} cannot be deleted: {ties.shown(self.reasons)}"


@dataclass(frozen=True)
class Deletion:
    """What a deletion did, or would do."""

    runs: tuple[Doomed, ...]
    refused: tuple[Refused, ...]
    is_done: bool
    """False: nothing was changed."""


@dataclass(frozen=True)
class DeletedRun:
    """A run that is deleted and can be restored."""

    run_id: UUID
    deployment: str
    status: str
    deleted_at: datetime
    deleted_by: str
    reason: str


@dataclass(frozen=True)
class Selection:
    """Which runs are meant; what is not said does not count."""

    deployment: str | None = None
    """The key of a deployment, a retired one too."""
    before: date | None = None
    """They were created before this day began (UTC)."""
    status: str | None = None
    """How they ended."""

    def check(self) -> "Selection":
        """Return the selection when it can be used.

        Raises:
            InvalidInput: it means every run there is, or no status that a run can end with.
        """
        if self == Selection():
            raise InvalidInput("say which runs: by their ids, or by deployment, day (before) or status")
        if self.status is not None and self.status not in TERMINAL:
            raise InvalidInput(
                f"status={self.status!r} is no status that a run ends with; write one of "
                f"{', '.join(sorted(TERMINAL))}: a run that has not ended cannot be deleted"
            )
        return self
