"""Routes that follow a run: what went into it, what was built from it, why it is as it is, what tells two apart."""

from typing import Annotated, Any

from fastapi import Query
from pydantic import Field

from ...lineage import questions, versions
from ...storage.errors import InvalidInput
from ...storage.ids import parse_run_id, show_run_id
from .. import store
from ..explaining import RunExplanation
from .context import Asked, Cursor, Limit, Opened, RunId
from .cursors import MAX_PAGE
from .documents import Document, InputDocument, ListPage, Number, Plain, ShownRunId
from .lineage_documents import BuiltDocument, ExplainedRun, built_document, explained_run, input_document
from .pages import cut
from .policies import Routes, read
from .runs import readable

routes = Routes(tags=["runs"])


class VersionEdge(Document):
    """One version read another one; both as `refresh/prices@v12`."""

    source: str = Field(description="What was read.")
    target: str = Field(description="What read it.")


class RunLineage(Document):
    """What went into a run and what was built from it, nearest first: of very much the nearest."""

    inputs: list[InputDocument]
    consumers: list[BuiltDocument]
    edges: list[VersionEdge]
    num_inputs: int = Field(description="How many there are; `inputs` holds the nearest 500.")
    num_consumers: int = Field(description="How many there are; `consumers` holds the nearest 500.")


class ComparedFactDocument(Document):
    """One fact of two runs."""

    section: str = Field(examples=["parameters"])
    name: str
    a: Plain = Field(description="What the first run has; null where it has none.")
    b: Plain = Field(description="What the second run has.")
    is_equal: bool
    change: Number | None = Field(description="Second minus first, of two finite numbers.")
    note: str


class FactOfRunsDocument(Document):
    """One fact of several runs."""

    section: str = Field(examples=["parameters"])
    name: str
    values: list[Plain] = Field(description="What each run has, in the order of `runs`; null where it has none.")
    equals: list[bool] = Field(description="Whether each has what the first one has: equal content is equal.")
    is_equal: bool = Field(description="All have what the first one has.")


class RunTableDocument(Document):
    """Several runs, fact by fact."""

    sentence: str
    runs: list[ShownRunId]
    deployments: list[str] = Field(description="The deployment of each run.")
    facts: list[FactOfRunsDocument]


class ComparisonDocument(Document):
    """Two runs, fact by fact."""

    sentence: str
    run_a: ShownRunId
    run_b: ShownRunId
    deployment_a: str
    deployment_b: str
    facts: list[ComparedFactDocument]


@routes.get("/runs/compare", summary="What tells two runs apart")
@read
def compare_runs(
    *,
    queries: Asked,
    ids: Annotated[str, Query(max_length=300, description="Two runs, separated by a comma.")],
    differences: Annotated[bool, Query(description="Only what differs.")] = False,
) -> ComparisonDocument:
    """Compare request, inputs, code, environment, outcome, metrics, schema and outputs."""
    named = [one.strip() for one in ids.split(",") if one.strip()]
    if len(named) != 2:
        raise InvalidInput(f"ids={ids!r}: give two runs, separated by a comma")
    found = queries.compare(*named)
    facts = [
        ComparedFactDocument(
            section=fact.section,
            name=fact.name,
            a=fact.a,
            b=fact.b,
            is_equal=fact.is_equal,
            change=fact.change,
            note=fact.note,
        )
        for fact in (found.differences if differences else found.facts)
    ]
    return ComparisonDocument(
        sentence=found.sentence(),
        run_a=found.run_a,
        run_b=found.run_b,
        deployment_a=found.deployment_a,
        deployment_b=found.deployment_b,
        facts=facts,
    )


@routes.get("/runs/compare/all", summary="What tells several runs apart")
@read
def compare_all_runs(
    *,
    queries: Asked,
    ids: Annotated[str, Query(max_length=3000, description="From 2 to 50 runs, separated by commas.")],
    differences: Annotated[bool, Query(description="Only what is not alike in all of them.")] = False,
) -> RunTableDocument:
    """Compare several runs side by side, each with the first one, as `GET /runs/compare` compares two."""
    found = queries.compare_all([one.strip() for one in ids.split(",") if one.strip()])
    return RunTableDocument(
        sentence=found.sentence(),
        runs=list(found.runs),
        deployments=list(found.deployments),
        facts=[
            FactOfRunsDocument(
                section=fact.section,
                name=fact.name,
                values=list(fact.values),
                equals=list(fact.equals),
                is_equal=fact.is_equal,
            )
            for fact in (found.differences if differences else found.facts)
        ],
    )


@routes.get("/runs/{run_id}/inputs", summary="What went into a run")
@read
def get_inputs(
    *,
    queries: Asked,
    run_id: RunId,
    recursive: Annotated[bool, Query(description="Down to the sources; else what was read directly.")] = True,
    cursor: Cursor = None,
    limit: Limit = MAX_PAGE,
) -> ListPage[InputDocument]:
    """Return the versions that went into a run, nearest first, and whether each still holds."""
    wanted = parse_run_id(run_id)
    rows = queries.inputs(wanted, recursive=recursive)
    asked = {"run": show_run_id(wanted), "recursive": recursive}
    page, following = cut(rows, of="inputs", key=_place, cursor=cursor, limit=limit, asked=asked)
    return ListPage(items=[input_document(one) for one in page], next_cursor=following)


@routes.get("/runs/{run_id}/lineage", summary="What a run stands between")
@read
def get_lineage(freshline: Opened, queries: Asked, run_id: RunId) -> RunLineage:
    """Return what went into a run and what was built from its version, with who read what: enough for a drawing."""
    wanted = readable(freshline, run_id)
    inputs = queries.inputs(wanted)
    with freshline.database.read() as connection:
        own = versions.version_of_run(connection, wanted)
        built = list(questions.impact_of(connection, own.id)) if own is not None else []
        shown_inputs, shown_built = inputs[:MAX_PAGE], built[:MAX_PAGE]
        names = {one.version_id: f"{one.key}@v{one.number}" for one in shown_inputs}
        names |= {one.version_id: f"{one.key}@v{one.number}" for one in shown_built}
        if own is not None:
            names[own.id] = f"{store.deployment_key(connection, own.deployment_id)}@v{own.number}"
        edges = questions.edges_among(connection, list(names))
    return RunLineage(
        inputs=[input_document(one) for one in shown_inputs],
        consumers=[built_document(one) for one in shown_built],
        edges=[VersionEdge(source=names[source], target=names[target]) for source, target in edges],
        num_inputs=len(inputs),
        num_consumers=len(built),
    )


@routes.get("/runs/{run_id}/explanation", summary="Why a run is as it is")
@read
def explain_run(queries: Asked, run_id: RunId) -> ExplainedRun:
    """Say why a run ran, was skipped, refused, waits or failed, with the evidence."""
    found: RunExplanation = queries.explain_run(run_id)
    return explained_run(found)


def _place(one: questions.InputVersion) -> list[Any]:
    return [one.depth, one.key, one.role, one.number]
