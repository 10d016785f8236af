"""Answers with many rows: a list of typed records that becomes a pandas table, and shows itself in a notebook.

Owns the form alone; knows no question.
"""

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from enum import Enum
from html import escape
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import UUID

from ..storage.literal import literal

if TYPE_CHECKING:
    import pandas as pd

T = TypeVar("T")

_SHOWN = 60
"""Rows of a notebook's view: a browser should not be given ten thousand."""


class Listing(list[T]):
    """Rows of one type, in the order that the question promises."""

    def __init__(self, rows: Iterable[T], of: type[T]) -> None:
        super().__init__(rows)
        self._of = of

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of the records' fields, and behind them of what the records derive, as their `DERIVED` says."""
        fields = (field.name for field in dataclasses.fields(self._of))  # type: ignore[arg-type]  # T is a dataclass
        return (*fields, *getattr(self._of, "DERIVED", ()))

    def to_pandas(self) -> "pd.DataFrame":
        """Return the rows as a table: n rows; a column per field, ids and words as text."""
        import pandas as pd

        return pd.DataFrame({name: [cell(getattr(row, name)) for row in self] for name in self.columns})

    def _repr_html_(self) -> str:
        shown = [[getattr(row, name) for name in self.columns] for row in self[:_SHOWN]]
        heads = [name.replace("_", " ") for name in self.columns]
        return html_table(heads, shown, more=len(self) - len(shown))


def maker(of: type[T]) -> Callable[..., T]:
    """Return what makes records of a frozen dataclass with slots, out of the values of all fields in their order.

    The initialisation of a frozen dataclass looks each field up by its name: for many rows that takes longer than all
    the rest of an answer. So a record is made as one that may be changed, with the same slots, and is frozen then.
    """
    names = [field.name for field in dataclasses.fields(of)]  # type: ignore[arg-type]  # as above
    thawed = dataclasses.make_dataclass(f"Thawed{of.__name__}", [(name, Any) for name in names], slots=True)

    def make(*values: Any) -> T:
        made: Any = thawed(*values)
        made.__class__ = of
        return made  # type: ignore[no-any-return]

    return make


def cell(value: Any) -> Any:
    """Return a field's value as it stands in a table: ids and words as text, several as one text."""
    if isinstance(value, Enum):
        return str(value.value)
    if isinstance(value, UUID):
        return str(value)
    if isinstance(value, tuple):
        return ", ".join(str(cell(one)) for one in value)
    return value


def as_html(text: str) -> str:
    """Return a text as HTML that shows it: nothing in it is markup, or turns around what stands beside it."""
    return escape(literal(text, keep_lines=True))


def html_table(columns: Sequence[str], rows: Iterable[Sequence[Any]], *, caption: str = "", more: int = 0) -> str:
    """Return an HTML table; what people wrote is text in it, never markup. `more` rows are said to be left out."""
    head = "".join(f"<th>{as_html(name)}</th>" for name in columns)
    body = "".join(f"<tr>{''.join(f'<td>{as_html(_shown(value))}</td>' for value in row)}</tr>" for row in rows)
    rest = f'<tr><td colspan="{len(columns)}">{more:,} more</td></tr>' if more > 0 else ""
    title = f"<caption>{as_html(caption)}</caption>" if caption else ""
    return f"<table>{title}<thead><tr>{head}</tr></thead><tbody>{body}{rest}</tbody></table>"


def _shown(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.12g}"  # -0.1 * 3 is -0.3 to whoever reads it
    return f"{value:%Y-%m-%d %H:%M:%S %Z}" if isinstance(value, datetime) else str(cell(value))
