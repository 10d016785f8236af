"""Eight processes complete runs of one dense graph at once: no error, and nothing that the oracle would not say."""

import random
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import sqlalchemy as sa

from freshline.lineage import registry
from freshline.runs.curation import Curation
from tests.factories import Graph, declared
from tests.faults.tables import DEPLOYMENT, VERSION
from tests.oracle import stored
from tests.oracle.crowd import complete_at_once

PROCESSES = 8
DEPLOYMENTS = 24
UPSTREAMS = 5


def dense_graph(seed):
    """Deployments of which each reads several of those before it."""
    chance = random.Random(seed)
    keys = [f"refresh/n{number}" for number in range(DEPLOYMENTS)]
    return [declared(key, chance.sample(keys[:at], min(at, UPSTREAMS))) for at, key in enumerate(keys)]


def let_crowd_complete(database, url, *, each, seed, share_of_others=0.0, meddle=None):
    """Let them complete, and somebody meddle meanwhile; return what happened, once the store agrees with the oracle."""
    graph = dense_graph(seed)
    keys = [one.key for one in graph]
    Graph(database, *graph)
    with ThreadPoolExecutor(1) as thread:
        crowd = thread.submit(
            complete_at_once,
            url,
            keys,
            processes=PROCESSES,
            each=each,
            seed=seed,
            share_of_others=share_of_others,
        )
        while meddle is not None and not crowd.done():
            meddle()
        happened = crowd.result()
    record = stored.record_of(database)
    with database.read() as connection:
        now = database.now(connection)
    expected = record.judge(now)
    assert stored.differences(expected, stored.judgements(database)[0]) == []
    assert happened["completed"] + happened["superseded"] == len(record.versions) == PROCESSES * each
    assert {"ready", "stale"} <= {judged.freshness for judged in expected.values()}
    return happened


class Meddler:
    """Changes declarations, edges and the validity of versions while others complete."""

    def __init__(self, database, seed):
        self.database = database
        self.graph = dense_graph(seed)
        self.chance = random.Random(seed)
        self.changes = Counter()

    def __call__(self):
        with self.database.read() as connection:
            query = sa.select(DEPLOYMENT.c.key, VERSION.c.number, VERSION.c.withdrawn_at).join(
                DEPLOYMENT, DEPLOYMENT.c.id == VERSION.c.deployment_id
            )
            versions = connection.execute(query.order_by(DEPLOYMENT.c.key, VERSION.c.number)).all()
        if not versions or self.chance.random() < 0.3:
            return self.change_catalogue()
        one = self.chance.choice(versions)
        judge = Curation(self.database).restore if one.withdrawn_at else Curation(self.database).withdraw
        judge(f"{one.key}@v{one.number}", "somebody said so")
        self.changes[judge.__name__] += 1
        return None

    def change_catalogue(self):
        """One deployment has another declaration, or one edge less; all others are as they were at first."""
        changed = self.chance.randrange(len(self.graph))
        one = self.graph[changed]
        fewer = replace(one, edges=one.edges[1:])
        changes = [replace(one, declaration_digest="declaration-2"), fewer, one]
        catalogue = [*self.graph[:changed], self.chance.choice(changes), *self.graph[changed + 1 :]]

        def work(connection):
            now = self.database.now(connection)
            return registry.register(connection, catalogue, tenant_id="default", project="default", now=now)

        self.database.write(work)
        self.changes["register"] += 1


def deadlocks(database):
    """How many deadlocks Postgres has broken in this database; whoever met one was not told when it was tried again."""
    with database.read() as connection:
        query = sa.text("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()")
        return connection.execute(query).scalar_one()


def test_eight_processes_on_one_dense_graph_agree_with_the_oracle(database, database_url):
    each = 50 if database.dialect == "postgresql" else 20
    happened = let_crowd_complete(database, database_url, each=each, seed=1)
    assert happened["superseded"] > 0
    if database.dialect == "postgresql":
        assert (happened["again"], deadlocks(database)) == (0, 0)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("share_of_others", [0.0, 0.2])
def test_eight_processes_for_long_on_one_dense_graph_agree_with_the_oracle(database, database_url, share_of_others):
    each = 800 if database.dialect == "postgresql" else 150
    happened = let_crowd_complete(database, database_url, each=each, seed=2, share_of_others=share_of_others)
    assert happened["superseded"] > 0
    if database.dialect == "postgresql" and not share_of_others:
        # Where edges arise meanwhile, a transaction may find that it needs a lock more, and has to begin again.
        assert (happened["again"], deadlocks(database)) == (0, 0)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_eight_processes_agree_with_the_oracle_while_catalogue_and_versions_change(database, database_url):
    meddler = Meddler(database, seed=3)
    each = 100 if database.dialect == "postgresql" else 30
    let_crowd_complete(database, database_url, each=each, seed=3, share_of_others=0.1, meddle=meddler)
    assert min(meddler.changes[change] for change in ("register", "withdraw", "restore")) > 0
