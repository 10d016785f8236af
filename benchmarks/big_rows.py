"""The rows of a big store, beside those of its graph: one statement for each table.

In words that SQLite and Postgres both know, but for a few that are put in. What there is of each run follows from its
number alone.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from operator import itemgetter
from uuid import UUID

from sqlalchemy.engine import Connection

from freshline.runs.details import TABLE_OF, run_type
from freshline.storage.words import DeploymentKind

from .layered_graphs import WIDTH

METRICS = (
    "sharpe_ratio",
    "total_return",
    "volatility",
    "max_drawdown",
    "turnover",
    "hit_ratio",
    "val_ic",
    "val_rmse",
    "loss",
    "num_trades",
)
"""What every run has: values between -1 and 3; one in a thousand is NaN."""
LAYERS = (
    DeploymentKind.REFRESH,
    DeploymentKind.REFRESH,
    DeploymentKind.TRAINING,
    DeploymentKind.INFERENCE,
    DeploymentKind.OPTIMIZE,
    DeploymentKind.BACKTEST,
    DeploymentKind.MONITORING,
    DeploymentKind.PREVIEW,
)
"""The kind of each layer's deployments; then it begins again."""
_ACTIVE = 20
"""The newest runs are still running."""
SPAN = timedelta(days=365)
DEPLOYMENT, RESOURCE, VERSION, RUN = 0x8000, 0x8001, 0x9000, 0xA000


@dataclass(frozen=True)
class Size:
    """How much there is."""

    runs: int = 100_000
    deployments: int = 2_000
    inputs_every: int = 1
    """Of every so many runs one has its inputs recorded."""
    events_every: int = 10
    """Of every so many one has its events."""
    artifacts: int = 100
    """So many of the newest completed runs have a table and a file, if there is an object store."""


def made_id(group: int, number: int) -> UUID:
    """Return the id of a row by its number."""
    # In rising order and of version 7, as those of real rows are.
    return UUID(f"01900000-0000-7000-{group:04x}-{number:012x}")


class Rows:
    """The statements: one for each table, in words that both databases know, but for a few that are put in."""

    def __init__(self, connection: Connection, size: Size, until: datetime) -> None:
        self._connection = connection
        self._size = size
        self._until = until
        self._is_sqlite = connection.dialect.name == "sqlite"
        self._step_s = max(1, int(SPAN.total_seconds()) // max(1, size.runs))

    def write(self) -> None:
        """Write everything that is there for each run, and what the deployments' states say then."""
        indexes = self._drop_indexes()
        self._number_runs()
        self._insert("version", self._version(), "big_run WHERE chance < 88")
        self._insert("run", self._run(), "big_run ORDER BY n")
        for kind, model in TABLE_OF.items():
            self._insert(str(model.__tablename__), {"run_id": "id"}, f"run WHERE kind = '{kind}'")
        self._write_metrics()
        self._write_inputs()
        self._write_events()
        for definition in indexes:
            self._do(definition)
        self._set_states()
        self._do("DROP TABLE big_run")

    def _drop_indexes(self) -> list[str]:
        """Drop the indexes that no constraint needs; return how they are made: at once that is far less work."""
        listed = ", ".join(f"'{table}'" for table in _WITH_MANY_ROWS)
        query = (
            f"SELECT name, sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL AND tbl_name IN ({listed})"
            if self._is_sqlite
            else f"SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = current_schema() "
            f"AND tablename IN ({listed}) AND indexname NOT IN (SELECT conname FROM pg_constraint)"
        )
        found = self._connection.exec_driver_sql(query).all()
        for name, _ in found:
            self._do(f"DROP INDEX {name}")
        return [definition for _, definition in found]

    def _number_runs(self) -> None:
        count, nodes = self._size.runs, self._size.deployments
        # The newest round comes to two thirds of the deployments: of the others, those that read what it changed are
        # stale. All runs of the rounds that decide what is current completed; of those before, some came to nothing.
        ahead = (2 * nodes // 3 - count) % nodes
        numbers = {
            "n": "n",
            "node": f"(n + {ahead}) % {nodes}",
            "round": f"(n + {ahead}) / {nodes}",
            "chance": f"CASE WHEN n >= {count - _ACTIVE} THEN 100 WHEN n < {nodes} OR n >= {count - 2 * nodes} THEN 0 "
            f"ELSE {self._chance('n')} % 100 END",
        }
        series = f"SELECT 0 UNION ALL SELECT n + 1 FROM series WHERE n < {count - 1}"
        self._do("CREATE TEMPORARY TABLE big_run (n BIGINT PRIMARY KEY, node BIGINT, round BIGINT, chance BIGINT)")
        self._insert("big_run", numbers, f"(WITH RECURSIVE series(n) AS ({series}) SELECT n FROM series) AS numbers")

    def _version(self) -> dict[str, str]:
        return {
            "id": self._uuid(VERSION, "n"),
            "deployment_id": self._uuid(DEPLOYMENT, "node"),
            "partition": "''",
            "number": "round + 1",
            "run_id": self._uuid(RUN, "n"),
            "fence": "round + 1",
            "digest": self._hex("n", 64),
            "declaration_digest": "'declared'",
            "rows": "1000 + chance",
            "size_bytes": "80000",
            "data_end": self._day("n"),
            "created_at": self._time("n", 30),
        }

    def _run(self) -> dict[str, str]:
        universe = "CASE WHEN n % 2 = 0 THEN 'sp500' ELSE 'nasdaq' END"
        parameters = (
            """'{"lookback_d": ' || (n % 250) || ', "universe": "' || """
            + universe
            + """ || '", "risk": {"limit": 0.' || (n % 9 + 1) || '}}'"""
        )
        tags = """CASE n % 7 WHEN 0 THEN '["weekly"]' WHEN 1 THEN '["daily", "risk"]' ELSE '[]' END"""
        message = "WHEN chance BETWEEN 98 AND 99 THEN 'refresh/prices is stale'"
        return {
            "id": self._uuid(RUN, "n"),
            "tenant_id": "'default'",
            "project": "'default'",
            "deployment_id": self._uuid(DEPLOYMENT, "node"),
            "partition": "''",
            "type": self._kind(run_type),
            "kind": self._kind(str),
            "trigger": "CASE WHEN n % 5 = 0 THEN 'schedule' ELSE 'submitted' END",
            "actor": "CASE WHEN n % 3 = 0 THEN 'ada' ELSE 'prefect' END",
            "generation": "0",
            "status": _STATUS,
            "stop_reason": _STOP_REASON,
            "parameters": self._json(parameters),
            "request": self._json("'{}'"),
            "workflow": self._json("'{}'"),
            "metadata": self._json("""CASE WHEN n % 11 = 0 THEN '{"ticket": ' || n || '}' ELSE '{}' END"""),
            "background": self._true,
            "tags": self._json(tags),
            "attempt": f"CASE WHEN {_STARTED} THEN 1 ELSE 0 END",
            "fence": f"CASE WHEN {_STARTED} THEN round + 1 END",
            "version_id": f"CASE WHEN chance < 88 THEN {self._uuid(VERSION, 'n')} END",
            "error_type": "CASE WHEN chance BETWEEN 88 AND 93 THEN 'ValueError' END",
            "error_message": f"CASE WHEN chance BETWEEN 88 AND 93 THEN 'no data for day ' || n {message} END",
            "progress": "CASE WHEN chance < 88 THEN 1.0 WHEN chance = 100 THEN 0.5 END",
            "created_at": self._time("n", 0),
            "started_at": f"CASE WHEN {_STARTED} THEN {self._time('n', 1)} END",
            "ended_at": f"CASE WHEN chance < 100 THEN {self._time('n', 30)} END",
            "duration_ns": f"CASE WHEN chance < 96 THEN (1 + {self._chance('n')} % 3600) * 1000000000 END",
            "lease_owner": "CASE WHEN chance = 100 THEN 'worker' END",
            "lease_until": f"CASE WHEN chance = 100 THEN {self._moment(timedelta(days=1))} END",
            "heartbeat_at": f"CASE WHEN chance = 100 THEN {self._moment(timedelta())} END",
            "last_seq": f"CASE WHEN n % {self._size.events_every} = 0 THEN {_NUM_EVENTS} ELSE 0 END",
        }

    def _write_metrics(self) -> None:
        names = " UNION ALL ".join(
            f"SELECT {place} AS place, '{name}' AS name"
            for place, name in sorted(enumerate(METRICS), key=itemgetter(1))
        )
        chance = self._chance(f"(n * {len(METRICS)} + place)")
        metric = {
            "run_id": self._uuid(RUN, "n"),
            "name": "name",
            "value": f"CASE WHEN {chance} % 1000 = 0 THEN NULL ELSE ({chance} % 4000000) / 1000000.0 - 1 END",
            "at": self._time("n", 30),
        }
        # In the order of the key: SQLite goes through the first table of a CROSS JOIN, and through the second for each.
        order = "" if self._is_sqlite else "ORDER BY n, name"
        self._insert(
            "metric", metric, f"(SELECT n FROM big_run ORDER BY n) AS runs CROSS JOIN ({names}) AS names {order}"
        )

    def _write_inputs(self) -> None:
        size = self._size
        read = {
            "run_id": self._uuid(RUN, "n"),
            "role": "edge.role",
            "upstream_id": "edge.upstream_id",
            "version_id": "version.id",
            "pinned": self._true,
            "read": self._true,
        }
        # Whoever reads has a higher number: of its upstreams' runs in the same round, each is older.
        self._insert(
            "run_input",
            read,
            f"big_run JOIN edge ON edge.deployment_id = {self._uuid(DEPLOYMENT, 'node')} JOIN version "
            "ON version.deployment_id = edge.upstream_id AND version.\"partition\" = '' AND version.number = round + 1 "
            f"WHERE {_STARTED} AND (n % {size.inputs_every} = 0 OR n >= {size.runs - 2 * size.deployments})",
        )
        built = {
            "version_id": "run.version_id",
            "role": "run_input.role",
            "upstream_id": "run_input.upstream_id",
            "input_version_id": "run_input.version_id",
        }
        source = "run_input JOIN run ON run.id = run_input.run_id WHERE run.version_id IS NOT NULL"
        self._insert("version_input", built, source)

    def _write_events(self) -> None:
        kinds = [
            (1, "run_submitted", '{"trigger": "submitted", "trigger_name": null}', "chance <= 100"),
            (2, "run_started", '{"attempt": 1, "fence": 1, "worker": "worker"}', _STARTED),
            (3, "progress_reported", '{"progress": 0.5, "label": null}', _STARTED),
            (4, "run_completed", '{"stop_reason": "completed"}', "chance < 88"),
            (4, "run_failed", '{"stop_reason": "error", "message": "no data"}', "chance BETWEEN 88 AND 93"),
            (4, "run_cancelled", '{"stop_reason": "cancelled_by_user"}', "chance BETWEEN 94 AND 95"),
            (2, "run_skipped", '{"stop_reason": "already_ready"}', "chance BETWEEN 96 AND 97"),
            (2, "run_refused", '{"stop_reason": "upstream_not_ready", "message": "no"}', "chance BETWEEN 98 AND 99"),
        ]
        for seq, kind, payload, condition in kinds:
            event = {
                "run_id": self._uuid(RUN, "n"),
                "seq": str(seq),
                "kind": f"'{kind}'",
                "payload": self._json(f"'{payload}'"),
                "actor": "'ada'",
                "at": self._time("n", seq),
            }
            self._insert("run_event", event, f"big_run WHERE n % {self._size.events_every} = 0 AND {condition}")

    def _set_states(self) -> None:
        self._do(
            "UPDATE deployment_state SET (version_id, fence, next_number, next_fence, freshness) = ("
            "SELECT id, number, number, number + 1, 'ready' FROM version "
            "WHERE version.deployment_id = deployment_state.deployment_id ORDER BY number DESC LIMIT 1) "
            "WHERE deployment_id IN (SELECT deployment_id FROM version)"
        )
        self._do(
            "UPDATE deployment_state SET (last_run_id, last_run_at, last_stop_reason) = ("
            "SELECT id, ended_at, stop_reason FROM run WHERE run.deployment_id = deployment_state.deployment_id "
            "AND ended_at IS NOT NULL ORDER BY id DESC LIMIT 1), activity = CASE WHEN EXISTS ("
            "SELECT 1 FROM run WHERE run.deployment_id = deployment_state.deployment_id AND ended_at IS NULL) "
            "THEN 'running' ELSE 'idle' END"
        )

    def _insert(self, table: str, values: dict[str, str], source: str) -> None:
        columns = ", ".join(f'"{name}"' for name in values)
        self._do(f"INSERT INTO {table} ({columns}) SELECT {', '.join(values.values())} FROM {source}")

    # What the two databases say differently.

    @property
    def _true(self) -> str:
        return "1" if self._is_sqlite else "true"

    def _hex(self, number: str, digits: int) -> str:
        if self._is_sqlite:
            return f"printf('%0{digits}x', {number})"
        return f"lpad(to_hex({number}), {digits}, '0')"

    def _uuid(self, group: int, number: str) -> str:
        text = f"'0190000000007000{group:04x}' || {self._hex(number, 12)}"
        return f"({text})" if self._is_sqlite else f"({text})::uuid"

    def _json(self, text: str) -> str:
        return f"({text})" if self._is_sqlite else f"({text})::jsonb"

    def _moment(self, ahead: timedelta) -> str:
        at = self._until + ahead
        return f"'{at:%Y-%m-%d %H:%M:%S}.000000'" if self._is_sqlite else f"timestamptz '{at.isoformat()}'"

    def _epoch(self, number: str, later_s: int) -> str:
        # The newest run was created half a minute ago.
        return (
            f"({int(self._until.timestamp()) - 30} - ({self._size.runs - 1} - {number}) * {self._step_s} + {later_s})"
        )

    def _time(self, number: str, later_s: int) -> str:
        epoch = self._epoch(number, later_s)
        return f"datetime({epoch}, 'unixepoch') || '.000000'" if self._is_sqlite else f"to_timestamp({epoch})"

    def _day(self, number: str) -> str:
        epoch = self._epoch(number, 0)
        return f"date({epoch}, 'unixepoch')" if self._is_sqlite else f"(to_timestamp({epoch}) AT TIME ZONE 'UTC')::date"

    def _chance(self, number: str) -> str:
        """Spread whole numbers over 0 to 2^32."""
        return f"((({number}) + 1) * 2654435761 % 4294967291)"

    def _kind(self, shown: Callable[[DeploymentKind], str]) -> str:
        cases = " ".join(f"WHEN {place} THEN '{shown(kind)}'" for place, kind in enumerate(LAYERS))
        return f"CASE node / {WIDTH} % {len(LAYERS)} {cases} END"

    def _do(self, statement: str) -> None:
        # psycopg takes a percent sign for the place of a value.
        self._connection.exec_driver_sql(statement if self._is_sqlite else statement.replace("%", "%%"))


_WITH_MANY_ROWS = ("version", "run", "metric", "run_input", "version_input", "run_event")
_STARTED = "(chance < 96 OR chance = 100)"
_NUM_EVENTS = "CASE WHEN chance = 100 THEN 3 WHEN chance < 96 THEN 4 ELSE 2 END"
_STATUS = (
    "CASE WHEN chance < 88 THEN 'completed' WHEN chance < 94 THEN 'failed' WHEN chance < 96 THEN 'cancelled' "
    "WHEN chance < 98 THEN 'skipped' WHEN chance < 100 THEN 'refused' ELSE 'running' END"
)
_STOP_REASON = (
    "CASE WHEN chance < 88 THEN 'completed' WHEN chance < 94 THEN 'error' WHEN chance < 96 THEN 'cancelled_by_user' "
    "WHEN chance < 98 THEN 'already_ready' WHEN chance < 100 THEN 'upstream_not_ready' END"
)
