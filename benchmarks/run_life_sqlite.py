"""The whole life of a run with 10 parameters and 10 metrics, one after another, on SQLite.

Floor and peer get the journal and the synchronous setting that ours has, which are those that ship; each says what its
own connection has. What ours does is in `lives`.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from freshline.storage.database import Database
from freshline.storage.settings import Settings

from . import durability
from .comparisons import Comparison, Kind
from .environments import peer_process
from .floors.run_life import SqliteRuns
from .harness import FLOOR, OURS, PEER, Setting, Subject, Subjects, Work
from .lives import Lives

RUNS = 100
"""Lives in a round of ours and of the peer."""
FLOOR_RUNS = 1000
"""The floor is faster: a round of it should take as long as a clock can tell."""

_JOURNAL = "WAL"


@contextmanager
def prepare(setting: Setting) -> Iterator[Subjects]:
    """Open our store with the settings that it ships with, floor and peer with the same ones."""
    directory, synchronous = setting.directory, Settings.model_construct().sqlite_synchronous
    with ExitStack() as exits:
        database = Database(f"sqlite:///{directory / 'ours.db'}", sqlite_synchronous=synchronous)
        exits.callback(database.dispose)
        lives = Lives.open(database, directory)
        raw = SqliteRuns(directory / "floor.db", journal=_JOURNAL, synchronous=synchronous)
        exits.callback(raw.close)
        subjects = {
            OURS: Subject(
                "submit, dispatch, claim, metrics, complete",
                lambda: lives.rate(RUNS),
                durability.of_database(database),
            ),
            FLOOR: Subject(
                "sqlite3, five commits",
                lambda: raw.rate(FLOOR_RUNS),
                durability.in_words(raw.ask, dialect="sqlite"),
            ),
        }
        if setting.with_peers:
            url = f"sqlite:///{directory / 'mlflow.db'}"
            peer = exits.enter_context(peer_process("mlflow", "run_life", [url, str(RUNS), _JOURNAL, synchronous]))
            subjects[PEER] = Subject(peer.name, peer.measure, peer.durability)
        yield subjects


WORK = Work(
    name="run_life_sqlite",
    what="a run's life: submitted, started, 10 parameters, 10 metrics, completed",
    unit="runs/s",
    higher_is_better=True,
    prepare=prepare,
    comparisons=(Comparison(Kind.RATIO, OURS, FLOOR), Comparison(Kind.RATIO, OURS, PEER, target=10.0)),
)
