"""What went into a version, what was built from it, how deployments hang together, and why one is stale."""

import dataclasses
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from freshline import lineage
from freshline.lineage import interface, questions, reasons
from freshline.lineage.listing import maker
from freshline.lineage.models import (
    Cause,
    CauseKind,
    Deployment,
    DeploymentState,
    Edge,
    Freshness,
    Resource,
    Version,
    VersionInput,
)
from freshline.storage.database import Database
from freshline.storage.errors import InvalidInput, NotFound, StoreUnavailable, StoreVersion
from freshline.storage.ids import new_id, show_run_id
from tests.factories import START, Graph, declared

CHAIN = (
    declared("refresh/prices"),
    declared("refresh/momentum", ["refresh/prices"]),
    declared("training/alpha", {"signal": "refresh/momentum", "prices": "refresh/prices"}),
    declared("backtest/book", {"model": "training/alpha", "prices": "refresh/prices"}),
)
KEYS = tuple(item.key for item in CHAIN)


@pytest.fixture
def chain(database):
    graph = Graph(database, *CHAIN)
    graph.publish_all(*KEYS)
    return graph


# What cannot be answered.


@pytest.mark.parametrize(
    ("reference", "error", "said"),
    [
        ("refresh/price", NotFound, "Did you mean 'refresh/prices'"),
        ("refresh/prices@v9", NotFound, "Did you mean 'refresh/prices@v1'"),
        ("refresh/prices@champion", NotFound, "it has none"),
        ("refresh/prices@", InvalidInput, "refresh/prices@v12"),
        ("prices", InvalidInput, "neither a version nor a run"),
        ("", InvalidInput, "neither a version nor a run"),
        ("run-17", InvalidInput, "neither a version nor a run"),
        ("run-00000000-0000-7000-8000-000000000000", NotFound, "no version published by 'run-00000000"),
    ],
)
def test_question_about_what_does_not_exist_says_what_there_is(chain, reference, error, said):
    for ask in (lineage.inputs, lineage.consumers, lineage.impact):
        with pytest.raises(error) as refusal:
            ask(reference, **of(chain))
        assert said in str(refusal.value), ask


def test_question_about_an_unknown_deployment_suggests_the_nearest(chain):
    for ask in (lineage.upstream, lineage.downstream, lineage.explain):
        with pytest.raises(NotFound, match="Did you mean 'backtest/book'"):
            ask("backtest/bok", **of(chain))


def test_question_of_another_tenant_finds_nothing(chain):
    for ask in (lineage.inputs, lineage.consumers, lineage.impact, lineage.upstream, lineage.explain):
        with pytest.raises(NotFound):
            ask("backtest/book", database=chain.database, tenant_id="somebody else")


def test_run_of_another_tenant_is_not_found(chain):
    chain.publish("refresh/prices", "new")
    (origin,) = lineage.explain("refresh/momentum", **of(chain)).origins
    assert lineage.inputs(origin.run_id, **of(chain)) == []
    with pytest.raises(NotFound):
        lineage.inputs(origin.run_id, database=chain.database, tenant_id="somebody else")


def test_store_that_is_not_there_is_not_made(tmp_path, monkeypatch):
    monkeypatch.setenv("FRESHLINE_HOME", str(tmp_path / "nowhere"))
    with pytest.raises(StoreUnavailable, match=r"there is no store at .*nowhere"):
        lineage.inputs("backtest/book")
    assert not (tmp_path / "nowhere").exists()


def test_database_without_our_tables_is_one_message_with_the_fix(tmp_path):
    empty = Database(f"sqlite:///{tmp_path / 'empty.db'}")
    try:
        with pytest.raises(StoreVersion, match="freshline db upgrade"):
            lineage.upstream("backtest/book", database=empty, tenant_id="default")
    finally:
        empty.dispose()


# What can.


def test_notebook_asks_the_store_that_the_environment_names(chain, monkeypatch):
    url = chain.database.engine.url.render_as_string(hide_password=False)
    monkeypatch.setenv("FRESHLINE_DATABASE_URL", url)
    before = set(interface._opened)
    try:
        assert [read.key for read in lineage.inputs("refresh/momentum")] == ["refresh/prices"]
        assert lineage.explain("refresh/momentum").freshness == Freshness.READY
        assert set(interface._opened) - before == {url}
    finally:
        interface._opened.pop(url).dispose()


def test_inputs_by_key_number_and_run_are_the_same(chain):
    with chain.database.read() as connection:
        version_id = questions.version_named(connection, "backtest/book", tenant_id="default")
        query = sa.select(Version.__table__.c.run_id).where(Version.__table__.c.id == version_id)
        run_id = connection.execute(query).scalar_one()
    asked = ("backtest/book", "backtest/book@v1", run_id, str(run_id), show_run_id(run_id))
    first, *others = [lineage.inputs(one, **of(chain)) for one in asked]
    assert {(read.depth, read.role, read.key) for read in first} == {
        (1, "model", "training/alpha"),
        (1, "prices", "refresh/prices"),
        (2, "signal", "refresh/momentum"),
    }
    assert all(other == first for other in others)


def test_inputs_of_a_version_say_which_were_withdrawn(chain):
    with chain.database.transaction() as connection:
        prices = questions.version_named(connection, "refresh/prices", tenant_id="default")
        version = Version.__table__
        connection.execute(sa.update(version).where(version.c.id == prices).values(withdrawn_at=START))
    found = lineage.inputs("backtest/book", **of(chain))
    assert {read.key for read in found if read.is_withdrawn} == {"refresh/prices"}


def test_consumers_are_the_direct_readers_alone(chain):
    found = lineage.consumers("refresh/momentum@v1", **of(chain))
    assert [(row.role, row.key, row.number, row.is_current) for row in found] == [("signal", "training/alpha", 1, True)]


def test_impact_reaches_everything_built_from_it_and_says_what_is_current(chain):
    chain.publish("refresh/momentum", "again")
    chain.publish("training/alpha", "again")
    found = lineage.impact("refresh/momentum@v1", **of(chain))
    assert [(row.depth, row.key, row.number, row.is_current) for row in found] == [
        (1, "training/alpha", 1, False),
        (2, "backtest/book", 1, True),
    ]
    assert [row.key for row in found.current] == ["backtest/book"]


def test_upstream_and_downstream_show_roles_depths_and_freshness(chain):
    chain.publish("refresh/prices", "new")
    above = lineage.upstream("training/alpha", **of(chain))
    assert [(row.depth, row.role, row.key, row.freshness, row.number) for row in above] == [
        (1, "signal", "refresh/momentum", Freshness.STALE, 1),
        (1, "prices", "refresh/prices", Freshness.READY, 2),
    ]
    below = lineage.downstream("refresh/momentum", **of(chain))
    assert [(row.depth, row.role, row.key) for row in below] == [
        (1, "signal", "training/alpha"),
        (2, "model", "backtest/book"),
    ]
    direct = lineage.downstream("refresh/momentum", recursive=False, **of(chain))
    assert [row.key for row in direct] == ["training/alpha"]


def test_upstream_that_was_retired_is_still_shown_and_said_to_be(chain):
    chain.register(*[item for item in CHAIN if item.key != "refresh/momentum"])
    found = {row.key: row.is_retired for row in lineage.upstream("training/alpha", **of(chain))}
    assert found == {"refresh/momentum": True, "refresh/prices": False}


def test_answer_is_a_list_a_table_and_a_view_in_a_notebook(chain):
    found = lineage.inputs("backtest/book", **of(chain))
    table = found.to_pandas()
    assert list(table.columns)[:4] == ["depth", "role", "key", "number"]
    assert len(table) == len(found) == 3
    assert table["run_id"].map(type).eq(str).all()
    assert "<td>training/alpha</td>" in found._repr_html_()


def test_record_that_is_made_quickly_is_like_any_other():
    values = {field.name: index for index, field in enumerate(dataclasses.fields(questions.BuiltVersion))}
    made = maker(questions.BuiltVersion)(*values.values())
    other = questions.BuiltVersion(**values)
    assert (type(made), made, hash(made), repr(made)) == (questions.BuiltVersion, other, hash(other), repr(other))
    with pytest.raises(dataclasses.FrozenInstanceError):
        made.depth = 7


def test_record_that_is_made_of_too_few_values_is_refused():
    with pytest.raises(TypeError, match="missing 1 required positional argument"):
        maker(questions.BuiltVersion)(*range(len(dataclasses.fields(questions.BuiltVersion)) - 1))


def test_empty_answer_keeps_its_columns(chain):
    found = lineage.inputs("refresh/prices", **of(chain))
    assert list(found) == []
    assert "key" in found.to_pandas().columns
    assert "<th>key</th>" in found._repr_html_()


def test_view_of_names_with_markup_shows_text():
    row = questions.LinkedDeployment(
        1, "<b>role</b>", "data", "refresh/<script>", Freshness.READY, 1, None, is_observed=False, is_retired=False
    )
    shown = lineage.interface.Listing([row] * 70, questions.LinkedDeployment)._repr_html_()
    assert "<script>" not in shown
    assert "<b>" not in shown
    assert "10 more" in shown


def of(graph):
    return {"database": graph.database, "tenant_id": "default"}


# Against an oracle.


@dataclass
class Made:
    """A random graph as it was stored."""

    versions: list[tuple[int, UUID]]
    """(deployment, id), oldest first."""
    digests: dict[UUID, str]
    reads: list[tuple[UUID, str, UUID]]
    """(reader, role, what it read)."""
    current: dict[int, UUID]
    keys: list[str]
    deployments: list[UUID]
    edges: list[tuple[int, str, int]]


@st.composite
def shapes(draw):
    """(deployment of each version, {(version, role): earlier version}, digest of each, edges, current choice)."""
    num_deployments = draw(st.integers(1, 5))
    owners = draw(st.lists(st.integers(0, num_deployments - 1), min_size=1, max_size=14))
    reads = {}
    for version in range(1, len(owners)):
        for role in draw(st.sets(st.sampled_from("abc"))):
            reads[version, role] = draw(st.integers(0, version - 1))
    digests = draw(st.lists(st.sampled_from("xyz"), min_size=len(owners), max_size=len(owners)))
    edges = {}
    for node in range(1, num_deployments):
        for role in draw(st.sets(st.sampled_from("abc"))):
            edges[node, role] = draw(st.integers(0, node - 1))
    return num_deployments, owners, reads, digests, edges, draw(st.integers(0, 10))


def store(connection, shape):
    num_deployments, owners, reads, digests, edges, choice = shape
    resource_id, deployments = new_id(), [new_id() for _ in range(num_deployments)]
    keys = [f"refresh/d{index}-{resource_id}" for index in range(num_deployments)]
    row = {"tenant_id": "default", "kind": "refresh", "resource_id": resource_id, "project": "p", "external": False}
    row |= {"declaration": {}, "declaration_digest": "d", "parameter_schema": {}}
    row |= {"created_at": START, "registered_at": START}
    resource = {"id": resource_id, "tenant_id": "default", "name": str(resource_id), "kind": "dataset"}
    insert(connection, Resource, [{**resource, "created_at": START}])
    insert(connection, Deployment, [{**row, "id": one, "key": key} for one, key in zip(deployments, keys, strict=True)])
    ids, rows, numbers = [new_id() for _ in owners], [], [0] * num_deployments
    for version_id, owner, digest in zip(ids, owners, digests, strict=True):
        numbers[owner] += 1
        facts = {"id": version_id, "deployment_id": deployments[owner], "partition": "", "number": numbers[owner]}
        facts |= {"fence": numbers[owner], "run_id": new_id(), "digest": digest, "declaration_digest": "d"}
        rows.append({**facts, "created_at": START})
    insert(connection, Version, rows)
    of_owner = {owner: [one for one, its in zip(ids, owners, strict=True) if its == owner] for owner in set(owners)}
    current = {owner: found[choice % len(found)] for owner, found in of_owner.items()}
    state = DeploymentState(deployment_id=resource_id).model_dump()
    insert(
        connection,
        DeploymentState,
        [{**state, "deployment_id": one, "version_id": current.get(index)} for index, one in enumerate(deployments)],
    )
    read = [(ids[reader], role, ids[given_]) for (reader, role), given_ in reads.items()]
    insert(
        connection,
        VersionInput,
        [
            {
                "version_id": reader,
                "role": role,
                "input_version_id": given_,
                "upstream_id": deployments[owners[ids.index(given_)]],
            }
            for reader, role, given_ in read
        ],
    )
    linked = [(node, role, above) for (node, role), above in edges.items()]
    insert(
        connection,
        Edge,
        [
            {
                "deployment_id": deployments[node],
                "role": role,
                "upstream_id": deployments[above],
                "kind": "data",
                "observed": False,
            }
            for node, role, above in linked
        ],
    )
    versions = list(zip(owners, ids, strict=True))
    return Made(versions, dict(zip(ids, digests, strict=True)), read, current, keys, deployments, linked)


def insert(connection, model, rows):
    if rows:
        connection.execute(sa.insert(model.__table__), rows)


def nearest(start, steps):
    """The oracle: {(node, role): depth} of all that `steps` (from, role, to) lead to, relaxed until all is still."""
    far = {start: 0}
    changed = True
    while changed:
        changed = False
        for here, _, there in steps:
            if here in far and far[here] + 1 < far.get(there, 1 << 30):
                far[there] = far[here] + 1
                changed = True
    found = {}
    for here, role, there in steps:
        if here in far:
            found[there, role] = min(far[here] + 1, found.get((there, role), 1 << 30))
    return found


@settings(
    max_examples=25,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(shape=shapes())
def test_answers_on_random_graphs_are_those_of_the_oracle(database, shape):
    made = database.write(lambda connection: store(connection, shape))
    backwards = [(given_, role, reader) for reader, role, given_ in made.reads]
    owners = {version_id: owner for owner, version_id in made.versions}
    with database.read() as connection:
        for version_id in owners:
            inputs = questions.inputs_of(connection, version_id)
            assert {(row.version_id, row.role): row.depth for row in inputs} == nearest(version_id, made.reads)
            assert [row.depth for row in inputs] == sorted(row.depth for row in inputs)
            for row in inputs:
                digest = made.digests[made.current[owners[row.version_id]]]
                assert row.is_current == (digest == made.digests[row.version_id])
                assert row.key == made.keys[owners[row.version_id]]
            direct = questions.inputs_of(connection, version_id, recursive=False)
            assert {(row.role, row.version_id) for row in direct} == {
                (role, given_) for reader, role, given_ in made.reads if reader == version_id
            }
            impact = questions.impact_of(connection, version_id)
            expected = nearest(version_id, backwards)
            assert {(row.version_id, row.role): row.depth for row in impact} == expected
            assert {row.version_id for row in impact.current} == {
                one for one, _ in expected if one == made.current[owners[one]]
            }
            consumers = questions.consumers_of(connection, version_id)
            assert {(row.version_id, row.role) for row in consumers} == {
                (reader, role) for reader, role, given_ in made.reads if given_ == version_id
            }
            reads = [(row.role, row.version_id) for row in direct]
            assert questions.inputs_from(connection, reads) == inputs
        for node, deployment_id in enumerate(made.deployments):
            above = questions.deployments_above(connection, deployment_id)
            below = questions.deployments_below(connection, deployment_id)
            for found, steps in (
                (above, made.edges),
                (below, [(there, role, here) for here, role, there in made.edges]),
            ):
                expected = {(made.keys[one], role): depth for (one, role), depth in nearest(node, steps).items()}
                assert {(row.key, row.role): row.depth for row in found} == expected


# Why is it stale?


def test_explanation_names_the_run_and_version_that_started_it(chain):
    started = chain.publish("refresh/prices", "new")
    explanation = lineage.explain("backtest/book", **of(chain))
    (origin,) = explanation.origins
    assert (origin.kind, origin.key, origin.number) == (CauseKind.INPUT_CHANGED, "refresh/prices", started.number)
    assert lineage.inputs(origin.run_id, **of(chain)) == []
    # Momentum, the model and the book read the prices themselves.
    assert (origin.num_hit, explanation.num_origins, explanation.num_stale_upstream) == (3, 1, 2)


def test_explanation_of_two_beginnings_lists_both_oldest_first(chain):
    chain.publish("refresh/prices", "new")
    chain.pass_time(timedelta(hours=1))
    chain.register(*CHAIN[:1], declared("refresh/momentum", ["refresh/prices"], digest="other code"), *CHAIN[2:])
    explanation = lineage.explain("backtest/book", **of(chain))
    assert [(origin.kind, origin.key) for origin in explanation.origins] == [
        (CauseKind.INPUT_CHANGED, "refresh/prices"),
        (CauseKind.DECLARATION_CHANGED, "refresh/momentum"),
    ]
    assert [origin.sentence() for origin in explanation.origins] == [
        "refresh/prices is at v2 now, with other content",
        "the declaration or code of refresh/momentum has changed",
    ]


def test_sentences_of_all_deployments_are_those_of_their_explanations(chain):
    chain.publish("refresh/prices", "new")
    chain.register(*CHAIN, declared("refresh/new"))
    ids = {key: chain.id(key) for key in (*KEYS, "refresh/new")}
    with chain.database.read() as connection:
        said = reasons.sentences_of(connection, ids.values())
        assert said == {one: reasons.explain(connection, one).sentence() for one in ids.values()}
    assert said[ids["refresh/new"]] == "refresh/new has no version yet"
    assert said[ids["refresh/prices"]] == "refresh/prices is ready"


def test_sentence_prefers_what_is_wrong_with_the_deployment_itself(chain):
    chain.publish("refresh/prices", "new")
    with chain.database.read() as connection:
        sentence = reasons.explain(connection, chain.id("backtest/book")).sentence()
    # It reads the stale model as well, but nobody has to look there.
    assert sentence == ("backtest/book is stale: refresh/prices is at v2 now, with other content than was read")


def test_view_of_an_explanation_has_the_sentence_and_the_reasons(chain):
    chain.publish("refresh/prices", "new")
    shown = lineage.explain("backtest/book", **of(chain))._repr_html_()
    assert "<caption>backtest/book is stale" in shown
    assert "training/alpha is stale itself" in shown


LONG = 10_001


def stale_graph(connection, upstreams):
    """Deployments of which all but the first are stale: node -> those that it reads; the first brought it."""
    shape = (len(upstreams), [0], {}, ["x"], {}, 0)
    made = store(connection, shape)
    cause = {"partition": "", "since": START, "origin_version_id": None}
    rows = [
        {
            **cause,
            "deployment_id": made.deployments[node],
            "kind": CauseKind.UPSTREAM_STALE if above else CauseKind.INPUT_CHANGED,
            "role": f"r{above}",
            "upstream_id": made.deployments[above],
            "origin_version_id": made.versions[0][1] if above == 0 else None,
        }
        for node, read in enumerate(upstreams)
        for above in read
    ]
    insert(connection, Cause, rows)
    state = DeploymentState.__table__
    connection.execute(
        sa.update(state).where(state.c.deployment_id != made.deployments[0]).values(freshness=Freshness.STALE)
    )
    return made


def test_explanation_of_ten_thousand_links_is_short_and_names_both_ends(database):
    made = database.write(
        lambda connection: stale_graph(connection, [[node - 1] if node else [] for node in range(LONG)])
    )
    with database.read() as connection:
        explanation = reasons.explain(connection, made.deployments[-1])
        sentences = reasons.sentences_of(connection, made.deployments)
    assert explanation.num_links == LONG - 1
    assert explanation.num_stale_upstream == LONG - 2
    assert len(explanation.chain) == reasons.MAX_LINKS
    assert explanation.chain[0].upstream == made.keys[-2]
    assert explanation.chain[-1].kind == CauseKind.INPUT_CHANGED
    assert explanation.chain[-1].upstream == made.keys[0]
    assert len(list(explanation.lines())) == reasons.MAX_FOLLOWED
    assert len(explanation.sentence()) < 1500
    assert f"{LONG - 7:,} more are stale in turn" in explanation.sentence()
    assert sentences[made.deployments[-1]] == explanation.sentence()
    assert len(repr(explanation)) < 40_000


def test_explanation_of_a_ladder_of_diamonds_tells_each_deployment_once(database):
    # 60 rungs of two: a tree of it would have 2^60 leaves.
    rungs = [[]] + [[max(0, 2 * ((node - 1) // 2) - 1), 2 * ((node - 1) // 2)] for node in range(1, 121)]
    made = database.write(lambda connection: stale_graph(connection, [sorted(set(read)) for read in rungs]))
    with database.read() as connection:
        explanation = reasons.explain(connection, made.deployments[-1])
    assert explanation.num_links == 60
    assert len(list(explanation.lines())) <= 2 * reasons.MAX_FOLLOWED
    assert {origin.key for origin in explanation.origins} == {made.keys[0]}


def test_explanation_of_causes_in_a_circle_ends(database):
    made = database.write(lambda connection: stale_graph(connection, [[], [2], [1]]))
    with database.read() as connection:
        explanation = reasons.explain(connection, made.deployments[1])
    assert explanation.num_links == 2
    assert explanation.origins == ()
    assert "is stale itself" in explanation.sentence()
