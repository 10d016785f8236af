"""Every event round-trips through JSON, and what no JSON can hold is refused, not turned into something else."""

import json
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from freshline.runs.author_events import AuthorEvent, CheckpointSaved, RecordableEvent, RecordedEvent, ToolReturned
from freshline.runs.run_events import Event, ProgressReported, parse_event
from freshline.storage.database import dump_json
from freshline.storage.errors import NotStorable

KINDS = {cls.model_fields["kind"].default: cls for cls in get_args(get_args(Event)[0])}

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | NUMBERS | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)


def values(annotation, metadata=()):
    """Everything that a field of this type may hold and JSON can."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin in (Union, UnionType):
        return st.one_of([values(one) for one in arguments])
    if origin is dict:
        return st.dictionaries(TEXT, values(arguments[1]), max_size=3)
    if origin is tuple:
        return st.lists(values(arguments[0]), max_size=3).map(tuple)
    if origin is list:
        return st.lists(values(arguments[0]), max_size=3)
    if origin is Literal:
        return st.sampled_from(arguments)
    known = {str: TEXT, float: NUMBERS, Any: JSON, NoneType: st.none()}
    return known[annotation] if annotation in known else st.from_type(_bounded(annotation, metadata))


def _bounded(annotation, metadata):
    return Annotated[(annotation, *metadata)] if metadata else annotation


def events_of(cls):
    return st.builds(
        cls, **{name: values(field.annotation, field.metadata) for name, field in cls.model_fields.items()}
    )


def test_union_has_every_event_under_a_kind_of_its_own():
    assert set(KINDS.values()) == set(RecordedEvent.__subclasses__())
    assert set(get_args(RecordableEvent)) < set(KINDS.values())
    assert len(KINDS) == len(get_args(get_args(Event)[0]))


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_event_round_trips_through_json(kind):
    @settings(max_examples=25, deadline=None, database=None)
    @given(event=events_of(KINDS[kind]))
    def check(event):
        assert event.kind == kind
        again = parse_event(kind, json.loads(dump_json(event.payload())))
        assert again == event
        assert type(again) is type(event)

    check()


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_event_with_an_unknown_fact_is_refused(kind):
    with pytest.raises(ValidationError, match="made_up"):
        parse_event(kind, {"made_up": 1})


def test_event_does_not_change_afterwards():
    event = AuthorEvent(name="loss")
    with pytest.raises(ValidationError, match="frozen"):
        event.name = "gain"


UNSTORABLE = [float("nan"), float("inf"), float("-inf")]


@pytest.mark.parametrize("number", UNSTORABLE)
@pytest.mark.parametrize(
    "event_of",
    [
        lambda number: AuthorEvent(name="loss", data={"loss": number}),
        lambda number: AuthorEvent(name="losses", data={"of": [{"epoch": 1, "loss": [0.5, number]}]}),
        lambda number: ToolReturned(tool_name="fit", data={"loss": number}),
        lambda number: ProgressReported(progress=number),
    ],
)
def test_number_that_no_json_holds_is_refused_and_the_run_goes_on(world, number, event_of):
    run = world.start(world.service.submit("refresh/prices")).run
    before = world.kinds(run.id)
    good = CheckpointSaved(checkpoint_id="1")
    with pytest.raises(NotStorable, match="JSON"):
        world.port.record(run.id, run.fence, [good, event_of(number)])
    assert world.kinds(run.id) == before, "all or nothing"
    world.port.record(run.id, run.fence, [good, event_of(0.5)])
    assert len(world.kinds(run.id)) == len(before) + 2
    assert [event for _, event in world.queries.events(run.id)][-1] == event_of(0.5)


@pytest.mark.parametrize("text", ["a\0b", "\ud800"])
def test_text_that_no_database_takes_is_refused_too(world, text):
    run = world.start(world.service.submit("refresh/prices")).run
    before = world.kinds(run.id)
    with pytest.raises(NotStorable):
        world.port.record(run.id, run.fence, [AuthorEvent(name="said", data={"text": text})])
    assert world.kinds(run.id) == before
