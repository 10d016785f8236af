"""How the graphs of versions and of deployments are walked: one query, whatever the depth and the number of ways.

The database finds what can be reached, each node once, and gives its facts with the edges that begin at it; how far
away a node is follows here from the edges. (A recursive query that carries the depth along reaches a node
again at every depth: with edges across layers that is many times the graph.) Knows the tables only as columns.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from operator import attrgetter
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.engine import Connection
from sqlalchemy.ext.compiler import compiles

from ..storage.database import Database
from ..storage.statement import Statement

Reached = tuple[int, Any, Any]
"""How far away by the shortest way, what the edge says, and the row of the node."""


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
            is_start: Callable[[sa.Column[UUID]], sa.ColumnElement[bool]], *, is_recursive: bool
        ) -> sa.Executable:
            begin = sa.select(node.label("id")).where(is_start(node))
            if is_recursive:
                reached = begin.cte("reached", recursive=True)
                # UNION, not UNION ALL: each node once, so diamonds do not multiply and a cycle would end.
                reached = reached.union(sa.select(far).join(reached, near == reached.c.id))
            else:
                reached = begin.union(sa.select(far).where(is_start(near))).cte("reached")
            # One row for each node, with its edges in lists: far less to send, and to read, than a row for each edge.
            steps = near == reached.c.id if is_recursive else sa.and_(near == reached.c.id, is_start(near))
            lists = (_Listed(column).label(f"all_{column.name}") for column in said)
            walked = (
                sa.select(reached.c.id, _Joined(sa.cast(far, sa.Text())).label("fars"), *lists)
                .join_from(reached, near.table, steps, isouter=True)
                .group_by(reached.c.id)
            )
            # Apart, so that Postgres does not begin at the far ends: a source may have very many readers.
            edges = walked.cte("walked").prefix_with("MATERIALIZED", dialect="postgresql")
            told = (column for column in edges.c if column.name != "id")
            # As text too: to compare and to look up many ids takes long.
            name = sa.cast(node, sa.Text()).label("name")
            return joined(
                sa.select(node.label("id"), name, *told, *facts).join_from(edges, node.table, node == edges.c.id)
            )

        def is_it(column: sa.Column[UUID]) -> sa.ColumnElement[bool]:
            return column == sa.bindparam("start", type_=sa.Uuid())

        # From one node without a list: for a list of unknown length Postgres would make a plan each time.
        self._to_the_end = Statement(lambda _: build(is_it, is_recursive=True))
        self._one_step = Statement(lambda _: build(is_it, is_recursive=False))
        self._from_several = Statement(lambda sql: build(lambda column: sql.among(column, "start"), is_recursive=True))
        self._from_found: Statement | None = None
        if found_by is not None:
            found = found_by.scalar_subquery()
            self._from_found = Statement(lambda _: build(lambda column: column == found, is_recursive=True))
        self._lists = attrgetter("fars", *(f"all_{column.name}" for column in said))

    def from_node(self, connection: Connection, start: UUID, *, recursive: bool = True) -> list[Reached]:
        """Walk from a node, which is at depth 0; without `recursive`, one step."""
        statement = self._to_the_end if recursive else self._one_step
        nodes = self._read(statement.rows(connection, start=start))
        return self._walked([name for name, row in nodes.items() if row.id == start], nodes)

    def from_found(
        self, database: Database, is_start: Callable[[Any], bool], **parameters: Any
    ) -> list[Reached] | None:
        """Walk from the node that `found_by` finds, which `is_start` tells by its row; None when it finds none.

        In a transaction of its own.
        """
        assert self._from_found is not None, "this way has no other way to find a node"
        nodes = self._read(database.ask(self._from_found, **parameters))
        start = next((name for name, row in nodes.items() if is_start(row)), None)
        return None if start is None else self._walked([start], nodes)

    def from_entries(
        self, connection: Connection, entries: Iterable[tuple[Any, UUID]], *, recursive: bool = True
    ) -> list[Reached]:
        """Walk from something that is no node itself: its edges are (what it says, node), at depth 1."""
        entered = list(dict.fromkeys(entries))
        if not entered:
            return []
        nodes = self._read(self._from_several.rows(connection, start=[node for _, node in entered]))
        name_of = {row.id: name for name, row in nodes.items()}
        first = [(name_of[node], said) for said, node in entered]
        return self._walked([], nodes, first=first, recursive=recursive)

    def _read(self, rows: Iterable[Any]) -> dict[str, Any]:
        """Return the rows of the nodes by their ids as text."""
        return {row.name: row for row in rows}

    def _steps(self, node: Any) -> Iterable[tuple[str, Any]]:
        """Return (name of the node that it leads to, what the edge says) of each edge from a node."""
        fars, *said = self._lists(node)
        if fars is None:
            return ()
        return zip(fars.split(","), said[0] if len(said) == 1 else zip(*said, strict=True), strict=True)

    def _walked(
        self,
        start: Iterable[str],
        nodes: Mapping[str, Any],
        *,
        first: Iterable[tuple[str, Any]] = (),
        recursive: bool = True,
    ) -> list[Reached]:
        """Follow the edges level by level; `first` are those of something that is no node, at depth 1."""
        found = dict.fromkeys(first, 1)
        visited = set(start)
        level, depth = visited | {name for name, _ in found}, 1 if found else 0
        visited |= level
        while level and recursive:
            depth += 1
            following = set()
            for name in level:
                for step in self._steps(nodes[name]):
                    if step not in found:
                        found[step] = depth
                        following.add(step[0])
            level = following - visited
            visited |= level
        return [(depth, said, nodes[name]) for (name, said), depth in found.items()]


class _ListType(sa.types.UserDefinedType[list[Any]]):
    """A list of texts, as each of the databases gives one."""

    cache_ok = True

    def result_processor(self, dialect: sa.Dialect, _coltype: object) -> Callable[[Any], list[Any]] | None:
        return json.loads if dialect.name == "sqlite" else None


class _Listed(sa.sql.functions.FunctionElement[list[Any]]):
    """The values of a group as a list; of two in one query, in the same order."""

    inherit_cache = True
    type = _ListType()


@compiles(_Listed)
def _as_array(element: _Listed, compiler: Any, **options: Any) -> str:
    return f"array_agg({compiler.process(element.clauses, **options)})"


@compiles(_Listed, "sqlite")
def _as_json(element: _Listed, compiler: Any, **options: Any) -> str:
    return f"json_group_array({compiler.process(element.clauses, **options)})"


class _Joined(sa.sql.functions.FunctionElement[str]):
    """The ids of a group in one text, which is read sooner than a list; in the order of the lists beside it."""

    inherit_cache = True
    type = sa.Text()


@compiles(_Joined)
def _as_text(element: _Joined, compiler: Any, **options: Any) -> str:
    return f"string_agg({compiler.process(element.clauses, **options)}, ',')"


@compiles(_Joined, "sqlite")
def _as_text_on_sqlite(element: _Joined, compiler: Any, **options: Any) -> str:
    return f"group_concat({compiler.process(element.clauses, **options)}, ',')"
