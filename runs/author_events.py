"""What a body may record in its run's log: the steps of a graph, tools, checkpoints, messages, or anything by name.

Frozen, in the past tense, and part of the union in `events`; a body sends them with `run.emit`.
"""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field


class RecordedEvent(BaseModel):
    """What all events share: unknown facts are refused, and nothing changes afterwards."""

    # NaN stays what it is: storing it is refused, where null would be silence.
    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="constants")

    def payload(self) -> dict[str, Any]:
        """Return the event's own facts, ready for JSON."""
        return self.model_dump(mode="json", exclude={"kind"})


class AuthorEvent(RecordedEvent):
    """Something of the author's own, by name; `run.note` records it."""

    kind: Literal["author_event"] = "author_event"
    name: str
    data: dict[str, Any] = Field(default_factory=dict)


class GraphStarted(RecordedEvent):
    """The execution of a graph began."""

    kind: Literal["graph_started"] = "graph_started"


class GraphCompleted(RecordedEvent):
    """The execution of a graph ended well."""

    kind: Literal["graph_completed"] = "graph_completed"
    iterations: int = Field(ge=0)
    duration_ms: int = Field(ge=0)


class GraphFailed(RecordedEvent):
    """The execution of a graph ended with an error."""

    kind: Literal["graph_failed"] = "graph_failed"
    error: str


class GraphInterrupted(RecordedEvent):
    """The execution of a graph was interrupted at a node."""

    kind: Literal["graph_interrupted"] = "graph_interrupted"
    reason: str
    node_id: str


class NodeEntered(RecordedEvent):
    """A node of the graph began."""

    kind: Literal["node_entered"] = "node_entered"
    node_id: str
    iteration: int = Field(ge=0)


class NodeExited(RecordedEvent):
    """A node of the graph ended."""

    kind: Literal["node_exited"] = "node_exited"
    node_id: str
    next_node: str | None = None
    """Null: none follows."""
    duration_ms: int = Field(ge=0)


class NodeFailed(RecordedEvent):
    """A node of the graph ended with an error."""

    kind: Literal["node_failed"] = "node_failed"
    node_id: str
    error: str


class NodeRetrying(RecordedEvent):
    """A node of the graph is tried again after a delay."""

    kind: Literal["node_retrying"] = "node_retrying"
    node_id: str
    attempt: int = Field(ge=1)
    delay_ms: int = Field(ge=0)


class ToolCalled(RecordedEvent):
    """A tool was called."""

    kind: Literal["tool_called"] = "tool_called"
    tool_name: str
    data: dict[str, Any] = Field(default_factory=dict)


class ToolReturned(RecordedEvent):
    """A tool returned."""

    kind: Literal["tool_returned"] = "tool_returned"
    tool_name: str
    data: dict[str, Any] = Field(default_factory=dict)


class ToolFailed(RecordedEvent):
    """A tool raised."""

    kind: Literal["tool_failed"] = "tool_failed"
    tool_name: str
    error: str | None = None


class CheckpointSaved(RecordedEvent):
    """The body saved its state, from which a later attempt may go on; `run.checkpoint` records it."""

    kind: Literal["checkpoint_saved"] = "checkpoint_saved"
    checkpoint_id: str
    node_id: str | None = None


class CheckpointRestored(RecordedEvent):
    """The body goes on from a saved state; `run.resume_from` records it."""

    kind: Literal["checkpoint_restored"] = "checkpoint_restored"
    checkpoint_id: str
    node_id: str | None = None


class CheckpointDeleted(RecordedEvent):
    """A saved state was removed."""

    kind: Literal["checkpoint_deleted"] = "checkpoint_deleted"
    checkpoint_id: str


class StateUpdated(RecordedEvent):
    """A node changed these keys of the graph's state."""

    kind: Literal["state_updated"] = "state_updated"
    node_id: str
    keys_changed: tuple[str, ...]


class MessageAdded(RecordedEvent):
    """A message joined those of the run; `run.message` records it. Its text is in `run_message`."""

    kind: Literal["message_added"] = "message_added"
    role: str
    content_length: int = Field(ge=0)


RecordableEvent = (
    AuthorEvent
    | GraphStarted
    | GraphCompleted
    | GraphFailed
    | GraphInterrupted
    | NodeEntered
    | NodeExited
    | NodeFailed
    | NodeRetrying
    | ToolCalled
    | ToolReturned
    | ToolFailed
    | CheckpointSaved
    | CheckpointRestored
    | CheckpointDeleted
    | StateUpdated
    | MessageAdded
)
"""What a body may send."""
