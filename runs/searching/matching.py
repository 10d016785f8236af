"""Comparisons that the two databases write differently: patterns, text in order, and values inside of JSON.

Whatever was written by people is a bound parameter.
"""

from collections.abc import Callable, Sequence
from decimal import Decimal
from functools import reduce
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.sql.elements import UnaryExpression
from sqlalchemy.sql.operators import custom_op

from ..models import Run
from .grammar import Operator

Clause = sa.ColumnElement[bool]

_RUN = Run.__table__  # type: ignore[attr-defined]

_ESCAPE = "~"
_COMPARE: dict[Operator, Callable[[Any, Any], Any]] = {
    Operator.EQUAL: lambda a, b: a == b,
    Operator.UNEQUAL: lambda a, b: a != b,
    Operator.LESS: lambda a, b: a < b,
    Operator.AT_MOST: lambda a, b: a <= b,
    Operator.MORE: lambda a, b: a > b,
    Operator.AT_LEAST: lambda a, b: a >= b,
}


def found_beside(query: sa.Select[Any]) -> Clause:
    """Return whether there is such a row beside the run; the tables of the query around it are not meant, but `run`."""
    return sa.exists(query.correlate(_RUN))


def without_index(column: Any) -> Any:
    """Return a column so that SQLite looks into the row rather than into an index: its unary plus says that."""
    return UnaryExpression(column, operator=custom_op("+"), type_=column.type)


def compared(column: Any, operator: Operator, values: Sequence[Any], type_: Any) -> Clause:
    """Return the comparison of a column with values of a type; null where the column is."""
    bound = [sa.literal(value, type_) for value in values]
    found: Clause = column.in_(bound) if operator == Operator.IN else _COMPARE[operator](column, bound[0])
    return found


def compared_text(dialect: str, column: Any, operator: Operator, values: Sequence[str]) -> Clause:
    """Return the comparison of a text, in the order of code points and with capitals apart on both databases."""
    if operator == Operator.CONTAINS:
        place = sa.func.strpos if dialect == "postgresql" else sa.func.instr
        return place(column, sa.literal(values[0], sa.Text)) > 0
    if operator == Operator.LIKE:
        if dialect == "postgresql":
            return column.like(sa.literal(_like(values[0]), sa.Text), escape=_ESCAPE)  # type: ignore[no-any-return]
        return column.op("GLOB", is_comparison=True)(sa.literal(_glob(values[0]), sa.Text))  # type: ignore[no-any-return]
    return compared(in_code_points(dialect, column), operator, values, sa.Text)


def in_code_points(dialect: str, column: Any) -> Any:
    """Return a text column with the order of its code points, which is SQLite's own."""
    return sa.collate(column, "C") if dialect == "postgresql" else column


def json_holds(
    dialect: str, column: Any, path: Sequence[str], operator: Operator, values: Sequence[str | int | float | bool]
) -> Clause:
    """Return whether the value at a path of a JSON column compares so; false, never null, where there is none.

    A number compares with numbers alone, a text with texts; `!=` holds for whatever is there and is not equal. `has`
    looks for an element of a list that is equal to one of the values.
    """
    inside = _on_postgres if dialect == "postgresql" else _on_sqlite
    return inside(column, path, operator, values)


def _on_postgres(column: Any, path: Sequence[str], operator: Operator, values: Sequence[Any]) -> Clause:
    found = column
    for part in path:
        found = found.op("->", return_type=JSONB)(sa.literal(part, sa.Text))
    if operator == Operator.IS_NULL:
        return sa.func.coalesce(sa.func.jsonb_typeof(found), sa.literal_column("'null'")) == sa.literal_column("'null'")
    if operator == Operator.HAS:
        listed = sa.case((sa.func.jsonb_typeof(found) == "array", found), else_=sa.literal_column("'[]'::jsonb"))
        one = sa.func.jsonb_array_elements(listed).table_valued(sa.column("value", JSONB), name="element")
        is_one = _element(one.c.value, Operator.IN, values)
        return found_beside(sa.select(sa.literal_column("1")).select_from(one).where(is_one))
    return sa.func.coalesce(_element(found, operator, values), sa.false())


def _element(found: Any, operator: Operator, values: Sequence[Any]) -> Any:
    kind = sa.func.jsonb_typeof(found)
    text = found.op("#>>", return_type=sa.Text)(sa.literal_column("'{}'"))
    if operator == Operator.UNEQUAL:
        return sa.and_(kind != "null", sa.not_(_element(found, Operator.EQUAL, values)))
    flags, texts, numbers = _by_type(values)
    holds = []
    if flags:
        holds.append(sa.and_(kind == "boolean", compared(text, operator, flags, sa.Text)))
    if texts:
        holds.append(sa.and_(kind == "string", compared_text("postgresql", text, operator, texts)))
    if numbers:
        # As decimals: a number of JSON may be larger than any of the machine's. In a CASE, which is asked in order.
        decimals = [Decimal(repr(number)) for number in numbers]
        holds.append(
            sa.case(
                (kind == "number", compared(sa.cast(text, sa.Numeric), operator, decimals, sa.Numeric)),
                else_=sa.false(),
            )
        )
    return sa.or_(*holds)


def _on_sqlite(column: Any, path: Sequence[str], operator: Operator, values: Sequence[Any]) -> Clause:
    rows, wanted = [], []
    source: Any = sa.type_coerce(column, sa.Text)
    for depth, part in enumerate(path):
        level = _each(source, f"level{depth}")
        rows.append(level)
        wanted.append(level.c.key == sa.literal(part, sa.Text))
        source = sa.case((level.c.type == "object", level.c.value), else_="{}")
    if operator == Operator.HAS:
        listed = sa.case((rows[-1].c.type == "array", rows[-1].c.value), else_="[]") if rows else source
        rows.append(_each(listed, "element"))
        wanted.append(_row_holds(rows[-1], Operator.IN, values))
    elif operator == Operator.IS_NULL:
        wanted.append(rows[-1].c.type != "null")
    elif operator == Operator.UNEQUAL:
        wanted += [rows[-1].c.type != "null", sa.not_(_row_holds(rows[-1], Operator.EQUAL, values))]
    else:
        wanted.append(_row_holds(rows[-1], operator, values))
    levels = reduce(lambda above, below: above.join(below, sa.true()), rows)
    found = found_beside(sa.select(sa.literal_column("1")).select_from(levels).where(*wanted))
    return sa.not_(found) if operator == Operator.IS_NULL else found


def _by_type(values: Sequence[Any]) -> tuple[list[str], list[str], list[int | float]]:
    """Return the flags, as JSON writes them, the texts and the numbers: a list of each is one comparison, not many."""
    flags = [str(value).lower() for value in values if isinstance(value, bool)]
    texts = [value for value in values if isinstance(value, str)]
    return flags, texts, [value for value in values if not isinstance(value, bool | str)]


def _each(source: Any, name: str) -> Any:
    columns: tuple[Any, ...] = (sa.column("key", sa.Text), sa.column("value"), sa.column("type", sa.Text))
    return sa.func.json_each(source).table_valued(*columns, name=name)


def _row_holds(row: Any, operator: Operator, values: Sequence[Any]) -> Clause:
    flags, texts, numbers = _by_type(values)
    holds = []
    if flags:
        holds.append(compared(row.c.type, operator, flags, sa.Text))
    if texts:
        holds.append(sa.and_(row.c.type == "text", compared_text("sqlite", row.c.value, operator, texts)))
    is_number = row.c.type.in_([sa.literal_column("'integer'"), sa.literal_column("'real'")])
    for type_, alike in ((sa.Integer, int), (sa.Float, float)):
        if those := [number for number in numbers if isinstance(number, alike)]:
            holds.append(sa.and_(is_number, compared(row.c.value, operator, those, type_)))
    return sa.or_(*holds)


def _like(pattern: str) -> str:
    """Return a pattern for LIKE; in what people write, a backslash takes the next sign as it is."""
    made = ""
    for is_wild, one in _signs(pattern):
        made += one if is_wild or one not in ("%", "_", _ESCAPE) else _ESCAPE + one
    return made


def _glob(pattern: str) -> str:
    """Return the same pattern for GLOB: SQLite's LIKE takes capitals for small letters."""
    made = ""
    for is_wild, one in _signs(pattern):
        made += {"%": "*", "_": "?"}[one] if is_wild else f"[{one}]" if one in "*?[" else one
    return made


def _signs(pattern: str) -> list[tuple[bool, str]]:
    """Return (is a wildcard, sign) for each sign of a pattern."""
    found = []
    position = 0
    while position < len(pattern):
        if pattern[position] == "\\" and position + 1 < len(pattern):
            position += 1
            found.append((False, pattern[position]))
        else:
            found.append((pattern[position] in "%_", pattern[position]))
        position += 1
    return found
