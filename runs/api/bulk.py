"""Routes for many runs at once: each item has a result of its own, in the order given; and deletions."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from pydantic import Field
from sqlalchemy.exc import SQLAlchemyError

from ...storage.errors import FreshlineError
from ...storage.ids import show_run_id
from ..care.deletion import Deletions
from ..composition import Freshline
from .context import Opened, RunId
from .cursors import MAX_PAGE
from .documents import CreatedRun, Document, RunDocument
from .policies import Routes, write
from .problems import Code, Problem, problem_of
from .runs import Act, Actor, Body, GivenRunId, NewRun, created, readable, run_document

T = TypeVar("T")

routes = Routes(tags=["runs"])


class NewRuns(Body):
    """Runs that are asked for."""

    runs: list[NewRun] = Field(min_length=1, max_length=MAX_PAGE)


class SomeRuns(Body):
    """Runs that something is done to."""

    ids: list[GivenRunId] = Field(min_length=1, max_length=MAX_PAGE)
    actor: Actor = "api"
    reason: str = Field(default="", max_length=2000)


class Deleting(Act):
    """How a run is deleted."""

    cascade: bool = Field(default=False, strict=True, description="The runs that rest on it, too.")


class CreatedItem(Document):
    """What became of one of the runs that were asked for: either of the two."""

    run: CreatedRun | None = None
    is_new: bool = Field(default=False, description="False: the key was known.")
    problem: Problem | None = None


class DoneItem(Document):
    """What became of one run."""

    id: str = Field(description="As it was given.")
    status: str | None = Field(default=None, description="The run's status now.")
    problem: Problem | None = Field(default=None, description="Why it was not done; null: it was.")


class CreatedItems(Document):
    """What became of each run that was asked for, in the order given."""

    items: list[CreatedItem]
    num_failed: int


class DoneItems(Document):
    """What became of each run, in the order given."""

    items: list[DoneItem]
    num_failed: int


class DeletedRun(Document):
    """A run that was deleted."""

    id: str
    deployment: str
    version: int | None
    size_bytes: int = Field(description="Bytes of its artifacts, those shared with others included.")


class DeletedRuns(Document):
    """What a deletion did."""

    items: list[DeletedRun]


@routes.post("/runs/bulk", summary="Ask for many runs")
@write
def create_runs(freshline: Opened, asked: NewRuns) -> CreatedItems:
    """Record up to 500 runs, each by itself: one that cannot be recorded leaves the others alone."""

    def create(one: NewRun) -> CreatedItem:
        (submitted,) = freshline.service.submit_all([one.submission()])
        return CreatedItem(run=created(submitted), is_new=submitted.is_new)

    items = _each(create, asked.runs, lambda problem, _: CreatedItem(problem=problem))
    return CreatedItems(items=items, num_failed=sum(one.problem is not None for one in items))


@routes.post("/runs/bulk/cancel", summary="Ask for the end of many runs")
@write
def cancel_runs(freshline: Opened, asked: SomeRuns) -> DoneItems:
    """Do for each what `POST /runs/{run_id}/cancel` does."""

    def cancel(run_id: str) -> DoneItem:
        run = freshline.service.cancel(readable(freshline, run_id), actor=asked.actor)
        return DoneItem(id=run_id, status=run.status)

    return _done(cancel, asked.ids)


@routes.post("/runs/bulk/delete", summary="Delete many runs")
@write
def delete_runs(freshline: Opened, asked: SomeRuns) -> DoneItems:
    """Do for each what `DELETE /runs/{run_id}` does, without cascade."""
    deletions = _deletions(freshline)

    def delete(run_id: str) -> DoneItem:
        deletions.delete(run_id, reason=asked.reason, actor=asked.actor)
        return DoneItem(id=run_id, status="deleted")

    return _done(delete, asked.ids)


@routes.delete("/runs/{run_id:run}", summary="Delete a run")
@write
def delete_run(freshline: Opened, run_id: RunId, how: Deleting | None = None) -> DeletedRuns:
    """Delete a run that has ended, softly: `undelete` takes that back until garbage collection has erased it."""
    how = how or Deleting()
    done = _deletions(freshline).delete(run_id, reason=how.reason, actor=how.actor, cascade=how.cascade)
    items = [
        DeletedRun(
            id=show_run_id(one.run_id), deployment=one.deployment, version=one.version, size_bytes=one.size_bytes
        )
        for one in done.runs
    ]
    return DeletedRuns(items=items)


@routes.post("/runs/{run_id}/undelete", summary="Take the deletion of a run back")
@write
def undelete_run(freshline: Opened, run_id: RunId, act: Act | None = None) -> RunDocument:
    """Return the run as it is again."""
    act = act or Act()
    (run,) = _deletions(freshline).restore(run_id, reason=act.reason, actor=act.actor)
    return run_document(freshline, run.id)


def _deletions(freshline: Freshline) -> Deletions:
    return Deletions(freshline.database, tenant_id=freshline.settings.tenant_id)


def _done(work: Callable[[str], DoneItem], ids: Sequence[str]) -> DoneItems:
    items = _each(work, ids, lambda problem, run_id: DoneItem(id=run_id, problem=problem))
    return DoneItems(items=items, num_failed=sum(one.problem is not None for one in items))


def _each(work: Callable[[Any], T], asked: Sequence[Any], failed: Callable[[Problem, Any], T]) -> list[T]:
    """Return what became of each. What was done before the database was away is said all the same."""
    made: list[T] = []
    is_done, away = False, None
    for one in asked:
        if away is not None:
            made.append(failed(away, one))
            continue
        try:
            made.append(work(one))
            is_done = True
        except (FreshlineError, SQLAlchemyError) as error:
            problem = problem_of(error)
            # When the database is away, it is away for the others too.
            if problem.code == Code.UNAVAILABLE:
                if not is_done:
                    raise
                away = problem
            made.append(failed(problem, one))
    return made
