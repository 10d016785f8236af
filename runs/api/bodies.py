"""A request's JSON, read strictly: what one of the two databases could not keep is refused before anything is done.

Owns the form of what is read; knows no field.
"""

import json
from typing import Any, NoReturn

from fastapi import Request

from .problems import Code, Refusal

MAX_BODY_BYTES = 1024 * 1024
MAX_WORKER_BODY_BYTES = 32 * 1024 * 1024
"""Of what a worker sends: 65,536 metric values, or the record of a table of many fragments."""
MAX_DEPTH = 40
"""Levels of a body: those of parameters or metadata, which have their own limit, and those around them."""
_SHOWN = 100
"""Characters of a name in what is said of its place."""


class StrictRequest(Request):
    """A request whose JSON has no NaN, no NUL, no half a character, no name twice and a bounded depth."""

    async def json(self) -> Any:
        """Return the body.

        Raises:
            Refusal: it is no JSON, or none that is taken.
        """
        if not hasattr(self, "_strict"):
            self._strict = parse(await self.body())
        return self._strict


def parse(body: bytes) -> Any:
    """Return the value of strict JSON.

    Raises:
        Refusal: saying where and why.
    """
    try:
        value = json.loads(body.decode(), parse_constant=_refuse_constant, object_pairs_hook=_object)
    except UnicodeDecodeError as error:
        raise _refused("/body", f"it is not UTF-8 at byte {error.start}") from None
    except json.JSONDecodeError as error:
        raise _refused("/body", f"it is no JSON: {error.msg} at character {error.pos}") from None
    except (RecursionError, ValueError):  # ValueError: an integer of thousands of digits
        raise _refused("/body", f"it is nested deeper than {MAX_DEPTH} levels, or a number is too long") from None
    _check(value)
    return value


def check_text(text: str, pointer: str) -> None:
    """Let pass text that both databases can keep.

    Raises:
        Refusal: it has a NUL character or a lone surrogate.
    """
    if not _is_kept(text):
        raise _not_kept(pointer)


def _is_kept(text: str) -> bool:
    if "\0" in text:
        return False
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _check(value: Any, *place: str | int) -> None:
    if isinstance(value, str):
        if not _is_kept(value):
            raise _not_kept(_pointer(place))
    elif isinstance(value, dict | list):
        if len(place) == MAX_DEPTH:
            raise _refused("/body", f"it is nested deeper than {MAX_DEPTH} levels")
        for name, item in value.items() if isinstance(value, dict) else enumerate(value):
            if isinstance(name, str) and not _is_kept(name):
                raise _not_kept(_pointer(place))
            _check(item, *place, name)


def _pointer(place: tuple[str | int, ...]) -> str:
    # Written when something is wrong: a name of half a body before each of its items is a minute's work.
    return "/".join(("/body", *(str(part)[:_SHOWN] for part in place)))


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for name, item in pairs:
        if name in made:
            raise _refused("/body", f"the name {name[:50]!r} stands twice in an object")
        made[name] = item
    return made


def _refuse_constant(text: str) -> NoReturn:
    raise _refused("/body", f"{text} is no number in JSON")


def _not_kept(pointer: str) -> Refusal:
    return _refused(pointer, "it has a NUL character or a lone surrogate, which no database keeps")


def _refused(pointer: str, why: str) -> Refusal:
    return Refusal(Code.INVALID_ARGUMENT, f"{pointer}: {why}", pointer=pointer)
