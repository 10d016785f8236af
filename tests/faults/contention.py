"""Several threads on one Postgres: what they do at once, and who waits for whom."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import sqlalchemy as sa


def at_once(*works: Callable[[], Any]) -> list[Any]:
    """Run these in threads at the same time; return what each returned, or the error that it raised."""

    def outcome(work: Callable[[], Any]) -> Any:
        try:
            return work()
        except Exception as error:  # the test says which errors it wants to see
            return error

    with ThreadPoolExecutor(len(works)) as threads:
        return list(threads.map(outcome, works))


def await_blocked(url: str, *, unless: Callable[[], bool] = lambda: False) -> None:
    """Wait until some connection of this database waits for a lock that another one holds, unless this is so before."""
    conninfo = sa.make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
    blocked = (
        "SELECT count(*) > 0, pg_sleep(0.002) FROM pg_stat_activity "
        "WHERE datname = current_database() AND wait_event_type = 'Lock'"
    )
    with psycopg.connect(conninfo, autocommit=True) as connection:
        while not unless() and not connection.execute(blocked).fetchone()[0]:  # type: ignore[index]  # always one row
            continue
