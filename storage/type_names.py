"""Reading a type's canonical name, as people write it in a declaration: `float64`, `timestamp[us, UTC]`, `list<int64>`.

The names are those that `digest.type_name` gives. Knows no Arrow: a declaration is read where there is none.
"""

import json
import re

from .errors import InvalidInput, nearest_names

SIMPLE = ("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float16", "float32",
          "float64", "date", "string", "binary")  # fmt: skip
"""Types that are one word."""

_MEANT = {
    "int": "int64", "integer": "int64", "float": "float64", "double": "float64", "number": "float64", "str": "string",
    "text": "string", "object": "string", "varchar": "string", "utf8": "string", "large_string": "string",
    "boolean": "bool", "datetime": "timestamp[us]", "timestamp": "timestamp[us]", "date32": "date", "bytes": "binary",
    "datetime64[ns]": "timestamp[ns]", "datetime64[us]": "timestamp[us]", "datetime64[s]": "timestamp[ms]",
    "timestamp[s]": "timestamp[ms]", "time[s]": "time[ms]", "category": "string", "dictionary": "string",
    "decimal": "decimal(38, 9)",
}  # fmt: skip
"""What other programs call them, and how seconds are stored."""
_PATTERNS = (
    (re.compile(r"binary\[(\d+)\]"), "binary[{}]"),
    (re.compile(r"decimal(32|64|128|256)?\((\d+),\s*(\d+)\)"), "decimal{}({}, {})"),
    (re.compile(r"timestamp\[(ms|us|ns)\]"), "timestamp[{}]"),
    (re.compile(r"timestamp\[(ms|us|ns),\s*([A-Za-z0-9_+:/-]+)\]"), "timestamp[{}, {}]"),
    (re.compile(r"time\[(ms|us|ns)\]"), "time[{}]"),
    (re.compile(r"duration\[(s|ms|us|ns)\]"), "duration[{}]"),
    (re.compile(r"(" + "|".join(sorted(SIMPLE, key=len, reverse=True)) + r")(?![A-Za-z0-9_])"), "{}"),
)
_EXTENSION = re.compile(r"(arrow\.[a-z0-9_.]+)<")
_FIXED = re.compile(r"\[(\d+)\]")
_SPACE = re.compile(r"\s*")


def canonical_type(written: str) -> str:
    """Return the canonical name of a type.

    >>> canonical_type("list<timestamp[us,UTC]>"), canonical_type("decimal(10,2)")
    ('list<timestamp[us, UTC]>', 'decimal128(10, 2)')

    Raises:
        InvalidInput: it is no type, with what was probably meant.
    """
    if not isinstance(written, str):
        raise InvalidInput(f"{written!r} is no type: write a name such as float64")
    reader = _Reader(written.strip())
    try:
        found = reader.type()
        reader.end()
    except _NoType:
        meant = _MEANT.get(written.strip().lower())
        near = [meant] if meant else nearest_names(written.strip(), SIMPLE)
        hint = f"did you mean {near[0]}?" if near else "write one such as float64, string, date, timestamp[us, UTC]"
        raise InvalidInput(f"{written!r} is no type; {hint}") from None
    return found


class _NoType(Exception):
    pass


class _Reader:
    def __init__(self, text: str) -> None:
        self._text, self._at = text, 0

    def type(self) -> str:
        for word, read in (("list<", self._list), ("map<", self._map), ("struct<", self._struct)):
            if self._takes(word):
                return read()
        if (match := _EXTENSION.match(self._text, self._at)) is not None:
            self._at = match.end()
            return f"{match[1]}<{self._closed(self.type())}>"
        for pattern, form in _PATTERNS:
            if (match := pattern.match(self._text, self._at)) is not None:
                self._at = match.end()
                return form.format(*(("128" if part is None else part) for part in match.groups()))
        raise _NoType

    def end(self) -> None:
        if self._at != len(self._text):
            raise _NoType

    def _list(self) -> str:
        found = f"list<{self._closed(self.type())}>"
        if (match := _FIXED.match(self._text, self._at)) is not None:
            self._at = match.end()
            return found + match[0]
        return found

    def _map(self) -> str:
        key = self.type()
        self._must(",")
        return f"map<{key}, {self._closed(self.type())}>"

    def _struct(self) -> str:
        fields = [self._field()]
        while self._takes(","):
            fields.append(self._field())
        return f"struct<{self._closed(', '.join(fields))}>"

    def _field(self) -> str:
        self._skip()
        try:
            name, end = json.JSONDecoder().raw_decode(self._text, self._at)
        except ValueError:
            raise _NoType from None
        if not isinstance(name, str):
            raise _NoType
        self._at = end
        self._must(":")
        return f"{json.dumps(name)}: {self.type()}"

    def _closed(self, inner: str) -> str:
        self._must(">")
        return inner

    def _must(self, mark: str) -> None:
        if not self._takes(mark):
            raise _NoType
        self._skip()

    def _takes(self, mark: str) -> bool:
        self._skip()
        if not self._text.startswith(mark, self._at):
            return False
        self._at += len(mark)
        return True

    def _skip(self) -> None:
        match = _SPACE.match(self._text, self._at)
        assert match is not None, "it matches nothing too"
        if match.end() < len(self._text):
            self._at = match.end()
