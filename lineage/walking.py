"""How the graphs of versions and of deployments are walked: one query, whatever the depth and the number of ways.

The database finds what can be reached, each node once, and gives the facts of the nodes and the edges between them;
how far away a node is follows here from the edges. (A recursive query that carries the depth along reaches a node
again at every depth: with edges across layers that is many times the graph.) Knows the tables only as columns.
"""

from collections.abc import Callable, Iterable, Sequence
from operator import attrgetter
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from ..storage.statement import Statement

Reached = tuple[int, Any, Any]
"""How far away by the shortest way, what the edge says, and the row of the node."""

_ENTRY = 0
"""The number of something that is no node, and has edges to the nodes at which a walk begins."""


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
            # Numbers, because an edge is told by two of them: less to send, and less to read, than two ids.
            number = sa.func.row_number().over().label("number")
            numbered = sa.select(reached.c.id, number).cte("numbered")
            here, there = numbered.alias("here"), numbered.alias("there")
            walked = sa.select(here.c.number, far.label("far"), *said).join_from(here, near.table, near == here.c.id)
            if not is_recursive:
                walked = walked.where(is_start(near))
            # Apart, so that Postgres does not begin at the far ends: a source may have very many readers.
            edge = walked.cte("walked").prefix_with("MATERIALIZED", dialect="postgresql")
            nodes = joined(
                sa.select(
                    numbered.c.number.label("near"),
                    sa.null().label("far"),
                    *(sa.null().label(column.name) for column in said),
                    node.label("id"),
                    *facts,
                ).join_from(numbered, node.table, node == numbered.c.id)
            )
            told = (edge.c[column.name] for column in said)
            edges = sa.select(edge.c.number, there.c.number, *told, sa.null(), *(sa.null() for _ in facts)).join_from(
                edge, there, edge.c.far == there.c.id
            )
            return sa.union_all(nodes, edges)

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
        self._said = attrgetter(*(column.name for column in said))

    def from_node(self, connection: Connection, start: UUID, *, recursive: bool = True) -> list[Reached]:
        """Walk from a node, which is at depth 0; without `recursive`, one step."""
        statement = self._to_the_end if recursive else self._one_step
        nodes, edges = self._read(statement.rows(connection, start=start))
        return _walked([number for number, row in nodes.items() if row.id == start], nodes, edges)

    def from_found(
        self, connection: Connection, is_start: Callable[[Any], bool], **parameters: Any
    ) -> list[Reached] | None:
        """Walk from the node that `found_by` finds, which `is_start` tells by its row; None when it finds none."""
        assert self._from_found is not None, "this way has no other way to find a node"
        nodes, edges = self._read(self._from_found.rows(connection, **parameters))
        start = [number for number, row in nodes.items() if is_start(row)]
        return _walked(start, nodes, edges) if start else None

    def from_entries(
        self, connection: Connection, entries: Iterable[tuple[Any, UUID]], *, recursive: bool = True
    ) -> list[Reached]:
        """Walk from something that is no node itself: its edges are (what it says, node), at depth 1."""
        entered = list(dict.fromkeys(entries))
        if not entered:
            return []
        nodes, edges = self._read(self._from_several.rows(connection, start=[node for _, node in entered]))
        number_of = {row.id: number for number, row in nodes.items()}
        first = {_ENTRY: [(number_of[node], said) for said, node in entered]}
        return _walked([_ENTRY], nodes, {**edges, **first} if recursive else first)

    def _read(self, rows: Iterable[Any]) -> tuple[dict[int, Any], dict[int, list[tuple[int, Any]]]]:
        """Return number -> row of the node, and number -> (number, what the edge says) of those that it leads to."""
        nodes: dict[int, Any] = {}
        edges: dict[int, list[tuple[int, Any]]] = {}
        for row in rows:
            far = row.far
            if far is None:
                nodes[row.near] = row
            else:
                edges.setdefault(row.near, []).append((far, self._said(row)))
        return nodes, edges


def _walked(start: list[int], nodes: dict[int, Any], edges: dict[int, list[tuple[int, Any]]]) -> list[Reached]:
    found: dict[tuple[int, Any], int] = {}
    level, depth = set(start), 0
    visited = set(level)
    while level:
        depth += 1
        following = set()
        for number in level:
            for step in edges.get(number, ()):
                if step not in found:
                    found[step] = depth
                    following.add(step[0])
        level = following - visited
        visited |= level
    return [(depth, said, nodes[number]) for (number, said), depth in found.items()]
