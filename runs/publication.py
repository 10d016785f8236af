"""What may be asked of a publication, and what comes of it. Reads no data and no record."""

from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from typing import Any

from ..storage import found
from ..storage.errors import InvalidInput
from .models import Run
from .request import check_key

_MAX_DIGEST = 250
_EARLIEST = date(1700, 1, 1)
_AHEAD = timedelta(hours=14)
"""Somewhere on earth it is already the day that it is in UTC after this time."""


@dataclass(frozen=True)
class Publication:
    """A version of an external resource, and the run that published it."""

    run: Run
    deployment: str
    """Its key, such as `refresh/vendor`."""
    version: int
    digest: str
    """The version's digest."""
    data_date: date
    """The last day that it speaks of."""
    rows: int | None
    """Rows of the table; null for what is none."""
    is_current: bool
    """False when a later publication is."""


@dataclass(frozen=True)
class Asked:
    """What was asked of one publication."""

    uri: str
    data_date: date | None
    date_column: str | None
    digest: str | None
    copy: bool
    allow_older: bool
    key: str | None
    actor: str

    def parameters(self) -> dict[str, Any]:
        """Return it as it stands on the run's record."""
        return {
            "uri": self.uri,
            "data_date": self.data_date.isoformat() if self.data_date is not None else None,
            "date_column": self.date_column,
            "digest": self.digest,
            "copy": self.copy,
            "allow_older": self.allow_older,
        }


def checked(asked: Asked) -> Asked:
    """Return what was asked, with the URI in full, when it can be meant: what needs no look at the data.

    Raises:
        InvalidInput: the key cannot be one, the data date is no date, the URI cannot be used, or the digest goes with
            nothing else asked.
    """
    check_key(asked.key)
    if isinstance(asked.data_date, datetime) or not isinstance(asked.data_date, date | None):
        raise InvalidInput(f"the data date {asked.data_date!r} is no date: give a datetime.date")
    if asked.digest is None:
        return replace(asked, uri=found.full_uri(asked.uri))
    found.check_uri(asked.uri)
    if not 1 <= len(asked.digest) <= _MAX_DIGEST or not asked.digest.isprintable():
        raise InvalidInput(f"the digest {asked.digest[:80]!r} must have 1 to {_MAX_DIGEST} printable characters")
    if asked.copy:
        raise InvalidInput("a digest is stated for what cannot be read from here: it cannot be copied either")
    if asked.data_date is None:
        raise InvalidInput(f"nobody reads {asked.uri} when its digest is stated: give the data date too")
    return asked


def check_data_date(data_date: date | None, *, now: datetime) -> None:
    """Refuse a data date that lies in the future, or that stands for none, such as the first day of the calendar.

    Raises:
        InvalidInput: with the date, and what to do.
    """
    today = (now + _AHEAD).date()
    if data_date is not None and data_date > today:
        raise InvalidInput(
            f"the data date {data_date} lies in the future (today is {today} at the latest), and nothing would lapse "
            "before it: give the last day that the data speak of, or name another date column, or none"
        )
    if data_date is not None and data_date < _EARLIEST:
        raise InvalidInput(
            f"the data date {data_date} stands for no day of data: give the last day that they speak of, or name "
            "another date column, or none"
        )
