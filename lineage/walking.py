"""How the graphs of versions and of deployments are walked: one query, whatever the depth and the number of ways.

The database walks level by level, and reaches each node once in each role, by the shortest way. Depths are values that
it takes for equal: of rows that differ in nothing else, UNION keeps the first. (A depth that told rows apart would
reach a node again at every depth: with edges across layers that is many times the graph.) Knows the tables only as
columns.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.engine import Connection
from sqlalchemy.ext.compiler import compiles

from ..storage.database import Database
from ..storage.statement import Sql, Statement

Reached = tuple[Any, ...]
"""How far away by the shortest way, what the edge says, and the facts of the node."""


class Way:
    """From a node to the edges that have it as `near`, to their `far` ends, and so on."""

    def __init__(
        self,
        near: sa.Column[UUID],
        far: sa.Column[UUID],
        said: Sequence[sa.Column[Any]],
        *,
        node: sa.Column[UUID],
        facts: Sequence[sa.ColumnElement[Any]],
        joined: Callable[[sa.Select[Any]], sa.Select[Any]],
        found_by: sa.Select[Any] | None = None,
    ) -> None:
        """`facts` are told of each node, whose id is in the column `node`; `joined` adds the tables that they need.

        `found_by` is a query for the id of a node by something else.
        """

        def build(
            sql: Sql,
            is_start: Callable[[sa.Column[UUID]], sa.ColumnElement[bool]],
            *,
            is_recursive: bool = True,
            told_first: Iterable[str] = (),
        ) -> sa.Executable:
            nothing = (sa.cast(sa.null(), column.type).label(column.name) for column in said)
            begin = sa.select(node.label("id"), *nothing, _NoDepth().label("depth")).where(is_start(node))
            if is_recursive:
                reached = begin.cte("reached", recursive=True)
                latest = sql.each_once(reached, "id", "depth")
                following = sa.select(far, *said, _Deeper(latest.c.depth)).join(latest, near == latest.c.id)
                # Postgres always walks level by level.
                reached = reached.union(following.suffix_with("ORDER BY depth COLLATE BINARY", dialect="sqlite"))
            else:
                direct = sa.select(far, *said, _Deeper(_NoDepth())).where(is_start(near))
                reached = begin.union(direct).cte("reached")
            words = (reached.c[column.name] for column in said)
            first = (reached.c[name] for name in told_first)
            told = sa.select(*first, _Depth(reached.c.depth), *words, *facts)
            return joined(told.join_from(reached, node.table, node == reached.c.id))

        def is_it(column: sa.Column[UUID]) -> sa.ColumnElement[bool]:
            return column == sa.bindparam("start", type_=sa.Uuid())

        # From one node without a list: for a list of unknown length Postgres would make a plan each time.
        self._to_the_end = Statement(lambda sql: build(sql, is_it))
        self._one_step = Statement(lambda sql: build(sql, is_it, is_recursive=False))
        self._from_several = Statement(
            lambda sql: build(sql, lambda column: sql.among(column, "start"), told_first=["id"])
        )
        self._from_found: Statement | None = None
        if found_by is not None:
            found = found_by.scalar_subquery()
            self._from_found = Statement(lambda sql: build(sql, lambda column: column == found))

    def from_node(self, connection: Connection, start: UUID, *, recursive: bool = True) -> Iterator[Reached]:
        """Walk from a node, which is at depth 0; without `recursive`, one step."""
        statement = self._to_the_end if recursive else self._one_step
        return _without_start(statement.rows(connection, start=start))

    def from_found(self, database: Database, **parameters: Any) -> Iterator[Reached] | None:
        """Walk from the node that `found_by` finds; None when it finds none. In a transaction of its own."""
        assert self._from_found is not None, "this way has no other way to find a node"
        rows = database.ask(self._from_found, **parameters)
        return _without_start(rows) if rows else None

    def from_entries(
        self, connection: Connection, entries: Iterable[tuple[Any, UUID]], *, recursive: bool = True
    ) -> list[Reached]:
        """Walk from something that is no node itself: its edges are (what it says, node), at depth 1.

        Of a way whose edges say one thing.
        """
        entered = dict.fromkeys(entries)
        if not entered:
            return []
        facts, further = {}, []
        for node, depth, said, *its_facts in self._from_several.rows(connection, start=[node for _, node in entered]):
            if not depth:
                facts[node] = its_facts
            elif recursive and (said, node) not in entered:
                further.append((depth + 1, said, *its_facts))
        return [(1, said, *facts[node]) for said, node in entered] + further


def _without_start(rows: Iterable[Any]) -> Iterator[Reached]:
    """Give them one by one: of very many, each is made into something else at once."""
    return (row for row in map(tuple, rows) if row[0])


class _NoDepth(sa.sql.functions.FunctionElement[Any]):
    """The depth of the start. To the database, all depths are equal."""

    inherit_cache = True
    type = sa.types.NullType()


class _Deeper(_NoDepth):
    """The depth beyond another one."""

    inherit_cache = True


class _Depth(sa.sql.functions.FunctionElement[int]):
    """A depth as a number."""

    inherit_cache = True
    type = sa.Integer()
    name = "depth"


# On Postgres so many days less as many times 24 hours: it compares intervals as if a day always had as many.


@compiles(_NoDepth)
def _nothing(_element: _NoDepth, _compiler: Any, **_options: Any) -> str:
    return "interval '0'"


@compiles(_Deeper)
def _a_day_less_its_hours(element: _Deeper, compiler: Any, **options: Any) -> str:
    return f"{compiler.process(element.clauses, **options)} + interval '1 day -24 hours'"


@compiles(_Depth)
def _days(element: _Depth, compiler: Any, **options: Any) -> str:
    return f"CAST(date_part('day', {compiler.process(element.clauses, **options)}) AS integer)"


# On SQLite so many spaces, compared without those at the end.


@compiles(_NoDepth, "sqlite")
def _nothing_on_sqlite(_element: _NoDepth, _compiler: Any, **_options: Any) -> str:
    return "'' COLLATE RTRIM"


@compiles(_Deeper, "sqlite")
def _one_space_more(element: _Deeper, compiler: Any, **options: Any) -> str:
    return f"({compiler.process(element.clauses, **options)}) || ' '"


@compiles(_Depth, "sqlite")
def _spaces(element: _Depth, compiler: Any, **options: Any) -> str:
    return f"length({compiler.process(element.clauses, **options)})"
