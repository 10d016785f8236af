"""Rows with more or wider columns than the table that they continue: which schema holds both.

Owns what an append or upsert may bring: columns that are new stand at the end, and the rows before have null there; a
wider type is that of the whole table; a narrower one becomes the table's. Nothing is ever narrowed or left out.
"""

import json
from typing import Any

import pyarrow as pa

from .digest import schema_types
from .errors import InvalidInput
from .schema_changes import is_widening
from .stored import schema_difference

_PANDAS_NOTES = b"pandas"


def evolved_schema(base: pa.Schema, given: pa.Schema) -> pa.Schema:
    """Return the schema of a table that holds the rows of both, that of `base` if it can.

    The order of the columns of `base` stays; that of `given` does not matter.

    Raises:
        InvalidInput: a column of the base is missing or of a type that cannot hold all values; the message names all.
            Or pandas gives an index without a name, and the base has none.
    """
    _refuse_nameless_index(base, given)
    known, types = dict(schema_types(base)), dict(schema_types(given))
    accepted = {
        name: known[name] if name in known and _fits(known[name], kind) else kind
        for name, kind in types.items()
        if name in known
    }
    difference = schema_difference(
        tuple(known.items()), tuple((name, accepted[name]) for name in known if name in accepted)
    )
    if difference is not None:
        unknown = [name for name in types if name not in known]
        more = f"; new {', '.join(map(repr, unknown))}" if unknown else ""
        raise InvalidInput(
            f"the columns do not continue those of the table: {difference}{more}. Only new columns and wider types can "
            "be added to it; anything else is a new table: write it as a whole"
        )
    widened = {name for name in known if is_widening(known[name], types[name])}
    fields = [_widened(field, given.field(field.name)) if field.name in widened else field for field in base]
    fields += [field for field in given if field.name not in known]
    if len(fields) == len(base) and not widened:
        return base
    return pa.schema([field.with_nullable(nullable=True) for field in fields], metadata=_notes(base, given, widened))


def _refuse_nameless_index(base: pa.Schema, given: pa.Schema) -> None:
    """Refuse what pandas keeps of rows that were filtered or sorted: nobody meant it as a new column."""
    notes = json.loads((given.metadata or {}).get(_PANDAS_NOTES, b"{}"))
    levels = {name for name in notes.get("index_columns", []) if isinstance(name, str)}
    nameless = {one["field_name"] for one in notes.get("columns", []) if one["name"] is None}
    if (levels & nameless) - set(base.names):
        raise InvalidInput(
            "the rows have an index without a name, which the table does not have: drop it with "
            "df.reset_index(drop=True), or give it a name to add it as a column"
        )


def _fits(known: str, given: str) -> bool:
    return known == given or is_widening(known, given) or is_widening(given, known)


def _widened(field: pa.Field, given: pa.Field) -> pa.Field:
    return field.with_type(given.type)


def _notes(base: pa.Schema, given: pa.Schema, widened: set[str]) -> dict[bytes, bytes] | None:
    """Return pandas' notes on the columns, where the base has any: of a widened column they would name the old type."""
    notes = (base.metadata or {}).get(_PANDAS_NOTES)
    if notes is None:
        return None
    content, others = json.loads(notes), json.loads((given.metadata or {}).get(_PANDAS_NOTES, b"{}"))
    theirs: dict[str, Any] = {one["field_name"]: one for one in others.get("columns", [])}
    kept = [one for one in content["columns"] if one["field_name"] not in widened]
    new = [theirs[name] for name in given.names if name in theirs and (name in widened or name not in base.names)]
    return {_PANDAS_NOTES: json.dumps({**content, "columns": [*kept, *new]}).encode()}
