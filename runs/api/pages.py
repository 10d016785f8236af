"""Pages of lists that are in memory, or are asked for by the number of their last item."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from .context import MAX_INTEGER
from .cursors import decode, encode, refused
from .documents import ListPage
from .problems import Code, Refusal

T = TypeVar("T")


def cut(
    rows: Sequence[T],
    *,
    of: str,
    key: Callable[[T], Any],
    cursor: str | None,
    limit: int,
    asked: Mapping[str, Any] | None = None,
) -> tuple[Sequence[T], str | None]:
    """Return the page behind a cursor of rows that are sorted by `key`, JSON, and the next cursor."""
    if cursor is not None:
        last = _as_tuple(decode(cursor, of=of, asked=asked))
        try:
            rows = [row for row in rows if _as_tuple(key(row)) > last]
        except TypeError:  # no key of such rows
            raise refused() from None
    page = rows[:limit]
    return page, encode(key(page[-1]), of=of, asked=asked) if len(rows) > limit else None


def behind(cursor: str | None, *, of: str, asked: Mapping[str, Any]) -> int | None:
    """Return the number that a cursor names; none without one."""
    if cursor is None:
        return None
    number = decode(cursor, of=of, asked=asked)
    if type(number) is not int or not 0 <= number <= MAX_INTEGER:
        raise refused()
    return number


def numbered(
    rows: Sequence[Any], *, of: str, asked: Mapping[str, Any], limit: int, number: Callable[[Any], int]
) -> tuple[Sequence[Any], str | None]:
    """Return the page of rows of which one more than `limit` was asked for, and the next cursor."""
    page = rows[:limit]
    return page, encode(number(page[-1]), of=of, asked=asked) if len(rows) > limit else None


def only_one(first: Any, second: Any, names: str) -> None:
    """Let pass two parameters of which one is given at most.

    Raises:
        Refusal: both are given.
    """
    if first is not None and second is not None:
        raise Refusal(Code.INVALID_ARGUMENT, f"{names} do not go together: give one of them")


def whole(items: Sequence[T]) -> ListPage[T]:
    """Return a list that has one page."""
    return ListPage(items=list(items), next_cursor=None)


def _as_tuple(key: Any) -> Any:
    return tuple(key) if isinstance(key, list | tuple) else key
