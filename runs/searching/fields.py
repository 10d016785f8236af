"""What can be asked of a run: the fields by name, and how the values of each are written.

Owns the vocabulary. How a comparison becomes SQL is for `compiling`; a name that is no field is a metric.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import sqlalchemy as sa

from ...lineage.models import Deployment, Resource, Version
from ...storage.words import DeploymentKind, Trigger
from .. import store
from ..details import run_type
from ..status import RunStatus, StopReason
from .grammar import Operator

RUN = store.RUN
DEPLOYMENT = Deployment.__table__  # type: ignore[attr-defined]
RESOURCE = Resource.__table__  # type: ignore[attr-defined]
VERSION = Version.__table__  # type: ignore[attr-defined]

_ORDERED = frozenset({Operator.LESS, Operator.AT_MOST, Operator.MORE, Operator.AT_LEAST})
_EQUATED = frozenset({Operator.EQUAL, Operator.UNEQUAL, Operator.IN})
_MATCHED = frozenset({Operator.LIKE, Operator.CONTAINS})
_NULL = frozenset({Operator.IS_NULL})


class Kind(StrEnum):
    """What a field holds."""

    ID = "a run id"
    WORD = "one of a closed list of words"
    TEXT = "text"
    TIME = "a time"
    DATE = "a date"
    DURATION = "a duration"
    NUMBER = "a number"
    FLAG = "true or false"
    JSON = "whatever somebody put there"
    TAGS = "labels"
    VERSIONS = "versions"


OPERATORS: Mapping[Kind, frozenset[Operator]] = {
    Kind.ID: _EQUATED | _NULL,
    Kind.WORD: _EQUATED | _NULL,
    Kind.TEXT: _EQUATED | _ORDERED | _MATCHED | _NULL,
    Kind.TIME: _EQUATED | _ORDERED | _NULL,
    Kind.DATE: _EQUATED | _ORDERED | _NULL,
    Kind.DURATION: _EQUATED | _ORDERED | _NULL,
    Kind.NUMBER: _EQUATED | _ORDERED | _NULL,
    Kind.FLAG: frozenset({Operator.EQUAL, Operator.UNEQUAL}),
    Kind.JSON: _EQUATED | _ORDERED | _MATCHED | _NULL | {Operator.HAS},
    Kind.TAGS: frozenset({Operator.HAS}),
    Kind.VERSIONS: frozenset({Operator.HAS}),
}
"""What each kind can be compared with."""
METRIC_OPERATORS = _EQUATED | _ORDERED | _NULL | {Operator.IS_NAN}


@dataclass(frozen=True)
class Field:
    """One field of a run."""

    name: str
    kind: Kind
    column: Any
    """Of the table `run`, unless `beside` says of which."""
    words: Mapping[str, str] | None = None
    """Of a closed list: as it is written -> as it is stored."""
    beside: sa.Table | None = None
    """The table of its column, where that is not `run`."""
    on: Any = None
    """How the run finds its row there."""

    @property
    def is_sortable(self) -> bool:
        """True when runs can be ordered by it."""
        return self.kind not in (Kind.JSON, Kind.TAGS, Kind.VERSIONS)

    @property
    def may_be_missing(self) -> bool:
        """True when some runs have none."""
        return self.name == "version" or bool(self.column.nullable)


def _words(vocabulary: type[StrEnum]) -> dict[str, str]:
    return {word.value: word.value for word in vocabulary}


_OF_DEPLOYMENT = DEPLOYMENT.c.id == RUN.c.deployment_id
_TYPES = {run_type(kind): run_type(kind) for kind in DeploymentKind}

_ALL = (
    Field("id", Kind.ID, RUN.c.id),
    Field("parent", Kind.ID, RUN.c.parent_id),
    Field("retry_of", Kind.ID, RUN.c.retry_of),
    Field("replay_of", Kind.ID, RUN.c.replay_of),
    Field("status", Kind.WORD, RUN.c.status, _words(RunStatus)),
    Field("type", Kind.WORD, RUN.c.type, _TYPES),
    # By the type: a program of the first schema writes no kind.
    Field("kind", Kind.WORD, RUN.c.type, {kind.value: run_type(kind) for kind in DeploymentKind}),
    Field("trigger", Kind.WORD, RUN.c.trigger, _words(Trigger)),
    Field("trigger_name", Kind.TEXT, RUN.c.trigger_name),
    Field("actor", Kind.TEXT, RUN.c.actor),
    Field("project", Kind.TEXT, RUN.c.project),
    Field("deployment", Kind.TEXT, DEPLOYMENT.c.key, beside=DEPLOYMENT, on=_OF_DEPLOYMENT),
    Field(
        "resource",
        Kind.TEXT,
        RESOURCE.c.name,
        beside=DEPLOYMENT.join(RESOURCE, RESOURCE.c.id == DEPLOYMENT.c.resource_id),
        on=_OF_DEPLOYMENT,
    ),
    Field("created_at", Kind.TIME, RUN.c.created_at),
    Field("started_at", Kind.TIME, RUN.c.started_at),
    Field("ended_at", Kind.TIME, RUN.c.ended_at),
    Field("duration", Kind.DURATION, RUN.c.duration_ns),
    Field("data_as_of", Kind.DATE, RUN.c.data_as_of),
    Field("progress", Kind.NUMBER, RUN.c.progress),
    Field("attempt", Kind.NUMBER, RUN.c.attempt),
    Field("generation", Kind.NUMBER, RUN.c.generation),
    Field("version", Kind.NUMBER, VERSION.c.number, beside=VERSION, on=VERSION.c.id == RUN.c.version_id),
    Field("background", Kind.FLAG, RUN.c.background),
    Field("stop_reason", Kind.WORD, RUN.c.stop_reason, _words(StopReason)),
    Field("error_type", Kind.TEXT, RUN.c.error_type),
    Field("error_message", Kind.TEXT, RUN.c.error_message),
    Field("git_commit", Kind.TEXT, RUN.c.git_commit),
    Field("tags", Kind.TAGS, RUN.c.tags),
    Field("inputs", Kind.VERSIONS, None),
    Field("outputs", Kind.VERSIONS, RUN.c.outputs),
    Field("parameters", Kind.JSON, RUN.c.parameters),
    Field("metadata", Kind.JSON, RUN.c.metadata),
    Field("request", Kind.JSON, RUN.c.request),
)

FIELDS: Mapping[str, Field] = {field.name: field for field in _ALL}
"""By name, in the order of the documentation."""
WITH_PATHS = frozenset({"parameters", "metadata", "request", "outputs"})
"""JSON objects: `parameters.days`."""
METRICS = "metrics"
"""Before the name of a metric that is also one of a field."""
