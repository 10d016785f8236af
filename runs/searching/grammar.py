"""The grammar of the search language: from text to what was written, without knowing any field.

    sharpe_ratio > 1 and not (status = failed or tags has 'draft') and started_at > -7d

Owns the words and their places in the text. What a name means is for `fields`.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from functools import lru_cache
from typing import Any

from lark import Lark, Token, Transformer, UnexpectedCharacters, UnexpectedInput, UnexpectedToken, v_args

from .errors import SearchError

MOST_CHARACTERS = 10_000
MOST_COMPARISONS = 100
MOST_VALUES = 500
"""In one list behind `in`."""
DEEPEST = 50
MOST_PARTS = 20
"""Of a name with dots: each is one more table to SQLite, which joins sixty-four."""

_GRAMMAR = r"""
    query: _any
    _any: any
    ?any: all (_OR all)*
    ?all: part (_AND part)*
    ?part: _NOT part          -> negation
         | "(" any ")"
         | name OPERATOR value                            -> compared
         | name _IN "(" value ("," value)* ")"            -> among
         | name _NOT _IN "(" value ("," value)* ")"       -> not_among
         | name _HAS value                                -> having
         | name _LIKE value                               -> like
         | name _NOT _LIKE value                          -> not_like
         | name _CONTAINS value                           -> containing
         | name _NOT _CONTAINS value                      -> not_containing
         | name _IS _NULL                                 -> null
         | name _IS _NOT _NULL                            -> not_null
         | name _IS _NAN                                  -> nan
         | name _IS _NOT _NAN                             -> not_nan
    name: (WORD | QUOTED) ("." (WORD | QUOTED))*
    order: MINUS? name
    value: NUMBER | DURATION | AGO | MOMENT | TEXT | QUOTED | WORD

    _OR.2: /or\b/i
    _AND.2: /and\b/i
    _NOT.2: /not\b/i
    _IN.2: /in\b/i
    _HAS.2: /has\b/i
    _LIKE.2: /like\b/i
    _CONTAINS.2: /contains\b/i
    _IS.2: /is\b/i
    _NULL.2: /null\b/i
    _NAN.2: /nan\b/i
    OPERATOR: "==" | "=" | "!=" | "<>" | "<=" | "<" | ">=" | ">"
    MINUS: "-"
    WORD: /[^\W\d]\w*/
    QUOTED: /"([^"]|"")*"/
    TEXT: /'([^']|'')*'/
    NUMBER: /[+-]?((\d+\.?\d*|\.\d+)(e[+-]?\d+)?|inf)(?![\w.])/i
    DURATION.2: /\d+[wdhms](\d+[dhms])*(?!\w)/i
    AGO.2: /-\d+[wdhms](\d+[dhms])*(?!\w)/i
    MOMENT.3: /\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d(\.\d{1,6})?)?(Z|[+-]\d\d:?\d\d)?)?(?!\w)/i
    %ignore /\s+/
"""

_VALUE = "a value"
_COMPARISON = "a comparison (= != < <= > >= in has like contains is)"
_SAID = {
    "WORD": "a field or metric",
    "QUOTED": "a field or metric",
    "_AND": "and",
    "_OR": "or",
    "LPAR": "(",
    "COMMA": "a comma",
    "RPAR": ")",
    "_NULL": "null",
    "_NAN": "nan",
    "_IN": "in",
    "_LIKE": "like",
    "_CONTAINS": "contains",
    "$END": "the end",
}
"""Terminal -> how an error calls it, where neither a value nor a comparison is expected."""
_ENDS_A_WORD = re.compile(r"[\s()<>=!,'\"]")
_SHOWN = 60
"""Characters of a word that an error repeats."""
_AFTER = frozenset({"_AND", "_OR", "RPAR", "$END"})
"""What may follow a comparison."""


class Operator(StrEnum):
    """How a field is compared."""

    EQUAL = "="
    UNEQUAL = "!="
    LESS = "<"
    AT_MOST = "<="
    MORE = ">"
    AT_LEAST = ">="
    IN = "in"
    HAS = "has"
    LIKE = "like"
    CONTAINS = "contains"
    IS_NULL = "is null"
    IS_NAN = "is nan"


class Form(StrEnum):
    """How a value was written."""

    NUMBER = "NUMBER"
    """`1`, `-0.5`, `1e9`, `inf`."""
    DURATION = "DURATION"
    """`90s`, `1h30m`."""
    AGO = "AGO"
    """`-7d`: that long before now."""
    MOMENT = "MOMENT"
    """`2026-01-05`, `2026-01-05T12:00Z`."""
    TEXT = "TEXT"
    """In quotes."""
    WORD = "WORD"
    """Without quotes, such as `failed`, `true`, `today`."""


@dataclass(frozen=True, slots=True)
class Name:
    """A field, metric or path, as it was written."""

    parts: tuple[str, ...]
    at: int
    is_quoted: bool
    """Its first part stood in double quotes: it is no word of the language."""

    def __str__(self) -> str:
        return ".".join(self.parts)


@dataclass(frozen=True, slots=True)
class Value:
    """A value, as it was written."""

    form: Form
    text: str
    """Without its quotes."""
    at: int


@dataclass(frozen=True, slots=True)
class Comparison:
    """A field with what it is compared to."""

    name: Name
    operator: Operator
    values: tuple[Value, ...]
    """One; of `in`, one or more; of `is null` and `is nan`, none."""
    depth: int = 0
    count: int = 1


@dataclass(frozen=True, slots=True)
class Not:
    """What does not hold."""

    item: "Condition"
    depth: int
    count: int


@dataclass(frozen=True, slots=True)
class Joined:
    """Several conditions, of which all or any hold."""

    items: "tuple[Condition, ...]"
    is_all: bool
    depth: int = field(default=0)
    count: int = field(default=0)


Condition = Comparison | Not | Joined


@dataclass(frozen=True, slots=True)
class Order:
    """What the runs are ordered by, as it was written."""

    name: Name
    is_descending: bool


def parse(text: str) -> Condition | None:
    """Return what a search asks for; None when it asks for nothing in particular.

    Raises:
        SearchError: it cannot be read; the message says where, and what was expected there.
    """
    _check(text)
    if not text.strip():
        return None
    condition: Condition = _read(text, "query")
    return condition


def parse_order(text: str) -> Order:
    """Return what `-sharpe_ratio` orders by.

    Raises:
        SearchError: it is not one name, with `-` before it or not.
    """
    _check(text)
    order: Order = _read(text, "order")
    return order


def _check(text: str) -> None:
    if len(text) > MOST_CHARACTERS:
        raise SearchError(f"it has {len(text):,} characters; at most {MOST_CHARACTERS:,}", text, MOST_CHARACTERS)
    for position, one in enumerate(text):
        if one == "\0" or "\ud800" <= one <= "\udfff":
            raise SearchError("no database takes a NUL character or half a surrogate pair", text, position)


@lru_cache(maxsize=256)
def _read(text: str, start: str) -> Any:
    try:
        return _parser().parse(text, start=start)
    except UnexpectedInput as error:
        raise _explained(error, text, is_order=start == "order") from None
    except _TooMuch as error:
        raise SearchError(str(error), text, error.position) from None


def _explained(error: UnexpectedInput, text: str, *, is_order: bool) -> SearchError:
    position = len(text) if error.pos_in_stream is None else error.pos_in_stream
    possible: Iterable[str] = ()
    if isinstance(error, UnexpectedToken):
        possible = error.expected
        position = len(text) if error.token.type == "$END" else position
    elif isinstance(error, UnexpectedCharacters):
        possible = error.allowed or ()
    before = text[:position]
    expected = _said(set(possible), is_open=before.count("(") > before.count(")"), is_order=is_order)
    rest = text[position:].split(maxsplit=1)
    if not rest:
        return SearchError(f"it ends where {expected} is expected", text, position)
    hint = (
        ", or its quote is not closed" if rest[0][0] in "'\"" else _quoting(text, position, expected, is_order=is_order)
    )
    return SearchError(f"{rest[0][:40]!r} stands where {expected} is expected{hint}", text, position)


def _quoting(text: str, position: int, expected: str, *, is_order: bool) -> str:
    """Return a hint where what cannot be read looks like a part of a value or name that needs quotes."""
    begin, end = position, position
    while begin and not _ENDS_A_WORD.match(text[begin - 1]):
        begin -= 1
    while end < len(text) and not _ENDS_A_WORD.match(text[end]):
        end += 1
    word = text[begin:end][:_SHOWN]
    if end == position or (begin == position and expected != _VALUE):
        return ""
    if is_order or expected == _COMPARISON:
        return f'; a name with such signs stands in double quotes: "{word.removeprefix("-")}"'
    return f"; a value with such signs stands in quotes: '{word}'"


def _said(possible: set[str], *, is_open: bool, is_order: bool) -> str:
    """Return what is expected, as people call it; the parser itself knows only some of it at some places."""
    if "TEXT" in possible:
        return _VALUE
    if "OPERATOR" in possible:
        return _SAID["$END"] if is_order else _COMPARISON
    if not is_open:
        possible = possible - {"RPAR", "COMMA"}
    if possible & _AFTER and not possible & {"COMMA", "WORD"}:
        possible = {"_AND", "_OR", "RPAR" if is_open else "$END"}
    said = list(dict.fromkeys(name for terminal, name in _SAID.items() if terminal in possible))
    return " or ".join(part for part in (", ".join(said[:-1]), said[-1]) if part)


class _TooMuch(Exception):
    def __init__(self, message: str, position: int) -> None:
        super().__init__(message)
        self.position = position


def _joined(items: list[Condition], *, is_all: bool) -> Condition:
    depth, count = 1 + max(one.depth for one in items), sum(one.count for one in items)
    return _bounded(Joined(tuple(items), is_all, depth, count))


def _bounded(made: Condition) -> Condition:
    if made.depth > DEEPEST:
        raise _TooMuch(f"it is nested deeper than {DEEPEST} levels", 0)
    if made.count > MOST_COMPARISONS:
        raise _TooMuch(f"it makes more than {MOST_COMPARISONS} comparisons", 0)
    return made


class _Made(Transformer[Token, Any]):
    """Makes the conditions while the parser reads: no tree is walked, however deep it is."""

    def query(self, found: list[Any]) -> Any:
        return found[0]

    def any(self, found: list[Any]) -> Condition:
        return _joined(found, is_all=False)

    def all(self, found: list[Any]) -> Condition:
        return _joined(found, is_all=True)

    def negation(self, found: list[Any]) -> Condition:
        return _bounded(_not(found[0]))

    def compared(self, found: list[Any]) -> Condition:
        written = {"==": "=", "<>": "!="}.get(found[1], str(found[1]))
        return Comparison(found[0], Operator(written), (found[2],))

    def among(self, found: list[Any]) -> Condition:
        if len(found) > MOST_VALUES + 1:
            raise _TooMuch(f"more than {MOST_VALUES} values in one list", found[MOST_VALUES + 1].at)
        return Comparison(found[0], Operator.IN, tuple(found[1:]))

    def having(self, found: list[Any]) -> Condition:
        return Comparison(found[0], Operator.HAS, (found[1],))

    def like(self, found: list[Any]) -> Condition:
        return Comparison(found[0], Operator.LIKE, (found[1],))

    def containing(self, found: list[Any]) -> Condition:
        return Comparison(found[0], Operator.CONTAINS, (found[1],))

    def null(self, found: list[Any]) -> Condition:
        return Comparison(found[0], Operator.IS_NULL, ())

    def nan(self, found: list[Any]) -> Condition:
        return Comparison(found[0], Operator.IS_NAN, ())

    def not_among(self, found: list[Any]) -> Condition:
        return _not(self.among(found))

    def not_like(self, found: list[Any]) -> Condition:
        return _not(self.like(found))

    def not_containing(self, found: list[Any]) -> Condition:
        return _not(self.containing(found))

    def not_null(self, found: list[Any]) -> Condition:
        return _not(self.null(found))

    def not_nan(self, found: list[Any]) -> Condition:
        return _not(self.nan(found))

    def name(self, found: list[Token]) -> Name:
        if len(found) > MOST_PARTS:
            raise _TooMuch(f"a name of more than {MOST_PARTS} parts", found[0].start_pos or 0)
        parts = tuple(_unquoted(token) for token in found)
        return Name(parts, found[0].start_pos or 0, found[0].type == "QUOTED")

    def order(self, found: list[Any]) -> Order:
        return Order(found[-1], len(found) > 1)

    @v_args(inline=True)
    def value(self, token: Token) -> Value:
        form = Form.TEXT if token.type == "QUOTED" else Form(token.type)
        return Value(form, _unquoted(token), token.start_pos or 0)


def _not(item: Condition) -> Condition:
    return Not(item, item.depth + 1, item.count)


def _unquoted(token: Token) -> str:
    quote = token[0]
    if token.type not in ("QUOTED", "TEXT"):
        return str(token)
    return str(token[1:-1]).replace(quote * 2, quote)


@lru_cache(maxsize=1)
def _parser() -> Lark:
    return Lark(_GRAMMAR, start=["query", "order"], parser="lalr", transformer=_Made(), propagate_positions=False)
