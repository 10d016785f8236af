"""How a written value is read for the kind of field that it is compared with: times, durations, numbers, words."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from ...storage.durations import LONGEST, read_duration
from ...storage.errors import InvalidInput
from ...storage.ids import parse_run_id
from .errors import SearchError
from .fields import Field, Kind
from .grammar import Form, Value

_TODAY = "today"
_MOST_DIGITS = 18
"""Of a whole number that every database holds; a longer one is read as a floating-point number."""
_TEXTS = (Form.TEXT, Form.WORD)


@dataclass(frozen=True)
class Values:
    """Reads the values of one search."""

    text: str
    """The search, for its errors."""
    now: datetime
    """What `-7d` and `today` are counted from."""

    def of(self, field: Field, value: Value) -> Any:
        """Return a value as the column of a field holds it.

        Raises:
            SearchError: the field has other values.
        """
        readers: Mapping[Kind, Callable[[Field, Value], Any]] = {
            Kind.ID: self._run_id,
            Kind.WORD: self._word,
            Kind.TIME: self._moment,
            Kind.DATE: lambda of, one: self._moment(of, one).date(),
            Kind.DURATION: self._nanoseconds,
            Kind.NUMBER: lambda of, one: self.number(of.name, one),
            Kind.FLAG: self._flag,
            Kind.TEXT: lambda of, one: self.said(of.name, one),
        }
        return readers[field.kind](field, value)

    def number(self, name: str, value: Value) -> int | float:
        """Return a number; raises SearchError for anything else."""
        if value.form != Form.NUMBER:
            hint = "; a name that is no field is one of a metric" if value.form in _TEXTS else ""
            raise self._refused(f"{name} is compared with a number, not with {value.text[:40]!r}{hint}", value)
        digits = value.text.lstrip("+-")
        return int(value.text) if digits.isdigit() and len(digits) <= _MOST_DIGITS else float(value.text)

    def said(self, name: str, value: Value) -> str:
        """Return a text; raises SearchError for anything else."""
        if value.form not in _TEXTS:
            raise self._refused(f"{name} is text: write it in quotes, '{value.text}'", value)
        return value.text

    def plain(self, name: str, value: Value) -> str | int | float | bool:
        """Return what JSON may hold: a text, a number, true or false."""
        if value.form == Form.NUMBER:
            return self.number(name, value)
        if value.form == Form.WORD and value.text.lower() in ("true", "false"):
            return value.text.lower() == "true"
        if value.form in (Form.DURATION, Form.AGO):
            raise self._refused(f"{name} holds no durations or times: write a number, or a text in quotes", value)
        return value.text

    def _run_id(self, field: Field, value: Value) -> UUID:
        text = self.said(field.name, value)
        try:
            return parse_run_id(text)
        except InvalidInput as error:
            raise self._refused(str(error), value) from None

    def _word(self, field: Field, value: Value) -> str:
        words = field.words or {}
        found = words.get(self.said(field.name, value))
        if found is None:
            listed = ", ".join(words)
            at = value.at + (self.text[value.at] in "'\"")
            raise SearchError(f"{value.text[:40]!r} is no {field.name}: {listed}", self.text, at, known=words)
        return found

    def _moment(self, field: Field, value: Value) -> datetime:
        if value.form == Form.WORD and value.text.lower() == _TODAY:
            return self.now.replace(hour=0, minute=0, second=0, microsecond=0)
        try:
            if value.form == Form.AGO:
                return self.now - read_duration(value.text[1:])
            if value.form in (Form.MOMENT, Form.TEXT):
                moment = datetime.fromisoformat(value.text)
                return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
        except (ValueError, OverflowError):
            pass
        raise self._refused(
            f"{field.name} is {field.kind}, and {value.text[:40]!r} is none: write 2026-01-05, 2026-01-05T12:00Z, "
            "-7d for seven days ago, or today",
            value,
        )

    def _nanoseconds(self, field: Field, value: Value) -> int:
        if value.form in (Form.DURATION, Form.TEXT):
            try:
                duration = read_duration(value.text)
            except ValueError:
                duration = timedelta.max
            if duration <= LONGEST:
                return duration // timedelta(microseconds=1) * 1000
        raise self._refused(f"{field.name} is a duration, such as 90s, 5m or 1h30m, not {value.text[:40]!r}", value)

    def _flag(self, field: Field, value: Value) -> bool:
        if value.form not in _TEXTS or value.text.lower() not in ("true", "false"):
            raise self._refused(f"{field.name} is true or false, not {value.text[:40]!r}", value)
        return value.text.lower() == "true"

    def _refused(self, message: str, value: Value) -> SearchError:
        return SearchError(message, self.text, value.at)
