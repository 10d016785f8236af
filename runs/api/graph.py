"""The route of the graph: every deployment with its freshness and its place in a drawing, and every edge."""

from datetime import date, datetime

from fastapi import Response
from pydantic import Field

from ...lineage.models import Activity, Freshness
from ...storage.words import DeploymentKind, EdgeKind
from ..entity_tags import tag_of
from ..queries import GraphNow
from ..ui.layout import layout
from .context import Asked
from .documents import Document
from .policies import Routes, read

routes = Routes(tags=["deployments"])


class GraphNode(Document):
    """One deployment in the graph."""

    key: str = Field(examples=["backtest/book"])
    kind: DeploymentKind
    freshness: Freshness
    activity: Activity
    version: int | None = Field(description="Number of its current version.")
    data_end: date | None = Field(description="Last data date of its current version.")
    why: str = Field(description="One sentence on its freshness.")
    last_run_at: datetime | None = Field(description="When its last run ended.")
    last_stop_reason: str | None = Field(description="Why its last run ended.")
    lapses_at: datetime | None = Field(description="When its freshness policy lapses.")
    auto_refresh: str | None = Field(description="One sentence on the run that follows by itself.")
    external: bool = Field(description="Prefect does not run it: its versions are published by hand.")
    x: float = Field(description="Its middle, in columns from the left: more than that of all that it reads.")
    y: float = Field(description="Its middle, in rows from the top; no two deployments lie on one another.")


class GraphEdge(Document):
    """One deployment reads another one."""

    source: str = Field(description="Key of what is read.")
    target: str = Field(description="Key of its reader.")
    role: str = Field(description="What the reader calls it.")
    kind: EdgeKind = Field(description="What the reader takes.")
    observed: bool = Field(description="Not declared: a run read it.")


class GraphDocument(Document):
    """The whole graph, from one snapshot."""

    nodes: list[GraphNode] = Field(description="The deployments that are not retired, by key.")
    edges: list[GraphEdge] = Field(description="By reader and role.")
    generated_at: datetime = Field(description="When it was so.")


@routes.get("/graph", summary="Read the graph", response_model=GraphDocument)
@read
def get_graph(queries: Asked) -> Response:
    """Return every deployment with its freshness and a place in a drawing of the graph, and every edge."""
    found = graph_document(queries.graph())
    # When it was so is no part of what it is known by.
    tag = tag_of(found.model_dump_json(exclude={"generated_at"}).encode())
    return Response(found.model_dump_json(), media_type="application/json", headers={"ETag": tag})


def graph_document(now: GraphNow) -> GraphDocument:
    """Return the graph with a place for each deployment."""
    number = {one.key: at for at, one in enumerate(now.deployments)}
    places = layout(len(number), ((number[edge.source], number[edge.target]) for edge in now.edges))
    nodes = [
        GraphNode(
            key=one.key,
            kind=DeploymentKind(one.key.partition("/")[0]),
            freshness=Freshness(one.freshness),
            activity=Activity(one.activity),
            version=one.version,
            data_end=one.data_end,
            why=one.why,
            last_run_at=one.last_run_at,
            last_stop_reason=one.last_stop_reason,
            lapses_at=one.lapses_at,
            auto_refresh=one.auto_refresh,
            external=one.external,
            x=place.x,
            y=place.y,
        )
        for one, place in zip(now.deployments, places, strict=True)
    ]
    edges = [
        GraphEdge(source=edge.source, target=edge.target, role=edge.role, kind=edge.kind, observed=edge.observed)
        for edge in now.edges
    ]
    return GraphDocument(nodes=nodes, edges=edges, generated_at=now.at)
