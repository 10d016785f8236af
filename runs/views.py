"""The SQL views for those who have only a SQL client: `v_runs`, `v_run_inputs`, `v_metrics` and `v_freshness`.

Owns what they are called and which columns they have; nothing of Freshline reads them. They are made anew by every
upgrade of the schema, after its last revision (`migrations/env.py`), always as this program declares them. So a change
of a view needs a revision that is one later, and no revision has to say what a view looked like.

Runs that are deleted are left out. A `run_id` is the text that people see; a `run_key` is the key in the tables, by
which a run is found quickly and by which runs are in the order of their creation.
"""

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from ..lineage.models import CauseKind

_SHOWN_ID = {
    # SQLite keeps a UUID as 32 digits.
    "sqlite": (
        "'run-' || substr({0}, 1, 8) || '-' || substr({0}, 9, 4) || '-' || substr({0}, 13, 4) || '-' "
        "|| substr({0}, 17, 4) || '-' || substr({0}, 21)"
    ),
    "postgresql": "'run-' || {0}::text",
}
_FROM_JSON = {"sqlite": "json_extract({0}, '$.{1}')", "postgresql": "{0} ->> '{1}'"}

_RUNS = """
SELECT
  {run_id} AS run_id,
  run.id AS run_key,
  run.tenant_id,
  run.project,
  deployment.key AS deployment,
  resource.name AS resource,
  deployment.kind,
  run.type,
  run.status,
  run.stop_reason,
  run."trigger",
  run.trigger_name,
  run.actor,
  run.attempt,
  run.progress,
  run.created_at,
  run.started_at,
  run.ended_at,
  run.duration_ns / 1000000000.0 AS duration_s,
  version.number AS version,
  version.data_end AS data_date,
  run.data_as_of,
  run.parameters,
  run.request,
  run.metadata,
  run.tags,
  run.outputs,
  run.error_type,
  run.error_message,
  run.git_commit,
  run.flow_run_id,
  {parent_id} AS parent_run_id,
  {retry_of} AS retry_of,
  {replay_of} AS replay_of
FROM run
JOIN deployment ON deployment.id = run.deployment_id
JOIN resource ON resource.id = deployment.resource_id
LEFT JOIN version ON version.id = run.version_id
WHERE run.deleted_at IS NULL
"""

_RUN_INPUTS = """
SELECT
  {run_id} AS run_id,
  run.id AS run_key,
  run.tenant_id,
  deployment.key AS deployment,
  run_input.role,
  upstream.key AS upstream,
  version.number AS version,
  version.data_end AS data_date,
  {produced_by} AS produced_by,
  run_input.pinned,
  run_input.read AS was_read,
  COALESCE(newest.digest = version.digest, {false}) AS still_current,
  version.withdrawn_at IS NOT NULL AS withdrawn
FROM run_input
JOIN run ON run.id = run_input.run_id
JOIN deployment ON deployment.id = run.deployment_id
JOIN deployment AS upstream ON upstream.id = run_input.upstream_id
JOIN version ON version.id = run_input.version_id
LEFT JOIN deployment_state AS state
  ON state.deployment_id = version.deployment_id AND state."partition" = version."partition"
LEFT JOIN version AS newest ON newest.id = state.version_id
WHERE run.deleted_at IS NULL
"""

_METRICS = """
SELECT
  {run_id} AS run_id,
  run.id AS run_key,
  run.tenant_id,
  deployment.key AS deployment,
  run.status,
  run.created_at,
  metric.name,
  metric.value,
  {unit} AS unit,
  metric.convention,
  metric.at
FROM metric
JOIN run ON run.id = metric.run_id
JOIN deployment ON deployment.id = run.deployment_id
WHERE run.deleted_at IS NULL
"""

_FRESHNESS = """
SELECT
  deployment.tenant_id,
  deployment.project,
  deployment.key AS deployment,
  resource.name AS resource,
  resource.kind AS resource_kind,
  deployment.kind,
  deployment.external,
  state.freshness,
  state.activity,
  version.number AS version,
  version.data_end AS data_date,
  version.created_at AS version_created_at,
  (SELECT count(*) FROM cause WHERE {its_cause}) AS causes,
  {why} AS why,
  state.lapses_at,
  {last_run_id} AS last_run_id,
  state.last_run_at,
  state.last_stop_reason
FROM deployment
JOIN resource ON resource.id = deployment.resource_id
JOIN deployment_state AS state ON state.deployment_id = deployment.id AND state."partition" = ''
LEFT JOIN version ON version.id = state.version_id
WHERE deployment.retired_at IS NULL
"""

_ITS_CAUSE = "cause.deployment_id = deployment.id AND cause.\"partition\" = ''"
_WHY = {
    # The order of what is gathered is that of the rows beneath: SQLite sorts within its function only since 3.44.
    "sqlite": "(SELECT group_concat(said, '; ') FROM ({causes} ORDER BY 1, 2))",
    "postgresql": "(SELECT string_agg(said, '; ' ORDER BY kind, role) FROM ({causes}) AS found)",
}
_CAUSES = f"""
    SELECT cause.kind, cause.role, CASE cause.kind
      WHEN '{CauseKind.INPUT_CHANGED}' THEN COALESCE(
        upstream.key || ' is at v' || origin.number || ' now, with other content than was read',
        upstream.key || ' has no version any more that holds')
      WHEN '{CauseKind.UPSTREAM_STALE}' THEN upstream.key || ' is stale itself'
      WHEN '{CauseKind.DECLARATION_CHANGED}'
        THEN 'its declaration or code is not the one that built the current version'
      WHEN '{CauseKind.EXPIRED}' THEN 'its freshness policy has lapsed'
      WHEN '{CauseKind.MISSING_INPUT}' THEN upstream.key || ' was retired'
      WHEN '{CauseKind.WITHDRAWN}' THEN 'what it read of ' || upstream.key || ' was withdrawn'
      ELSE cause.kind END AS said
    FROM cause
    LEFT JOIN deployment AS upstream ON upstream.id = cause.upstream_id
    LEFT JOIN version AS origin ON origin.id = cause.origin_version_id
    WHERE {_ITS_CAUSE}
"""

NAMES = ("v_runs", "v_run_inputs", "v_metrics", "v_freshness")
"""Every view, in the order in which they are made."""


def definition(name: str, dialect: str) -> str:
    """Return the query of a view on SQLite or Postgres."""

    def shown(column: str) -> str:
        return _SHOWN_ID[dialect].format(column)

    match name:
        case "v_runs":
            ids = {column: shown(f"run.{column}") for column in ("parent_id", "retry_of", "replay_of")}
            return _RUNS.format(run_id=shown("run.id"), **ids)
        case "v_run_inputs":
            false = "0" if dialect == "sqlite" else "false"
            return _RUN_INPUTS.format(run_id=shown("run.id"), produced_by=shown("version.run_id"), false=false)
        case "v_metrics":
            unit = _FROM_JSON[dialect].format("metric.convention", "unit")
            return _METRICS.format(run_id=shown("run.id"), unit=unit)
        case _:
            why = _WHY[dialect].format(causes=_CAUSES)
            return _FRESHNESS.format(its_cause=_ITS_CAUSE, why=why, last_run_id=shown("state.last_run_id"))


def drop_views(connection: Connection) -> None:
    """Take the views away, those that are there."""
    for name in NAMES:
        connection.exec_driver_sql(f"DROP VIEW IF EXISTS {name}")


def make_views(connection: Connection) -> None:
    """Make the views, or give those that are there their newest columns.

    Postgres keeps who may read them, and other people's views upon them.
    """
    dialect = connection.dialect.name
    create = "CREATE VIEW" if dialect == "sqlite" else "CREATE OR REPLACE VIEW"
    for name in NAMES:
        connection.exec_driver_sql(f"{create} {name} AS {definition(name, dialect)}")


def columns_of(connection: Connection) -> dict[str, list[str]]:
    """Return the columns that each view has in this database."""
    found = sa.inspect(connection)
    there = set(found.get_view_names())
    return {name: [column["name"] for column in found.get_columns(name)] for name in NAMES if name in there}
