"""What ceases to hold by a moment: expiring."""

from collections.abc import Mapping
from datetime import datetime, tzinfo
from typing import Any

import click

from .output import console, json_option, print_json, table


@click.command()
@click.option("--before", required=True, metavar="MOMENT", help="Such as 2026-11-23T08:00, or 2026-11-23.")
@click.option("--timezone", metavar="ZONE", help="Of the moment, such as America/New_York; else this machine's.")
@click.option("--lapsed", is_flag=True, help="Also what has lapsed already.")
@json_option
def expiring(*, before: str, timezone: str | None, lapsed: bool, as_json: bool) -> None:
    """Show which deployments' versions cease to hold by a moment, by their freshness policies."""
    from ...lineage import lapse
    from ...lineage.interface import expiring as ask
    from ..composition import shared_freshline

    moment = lapse.moment_named(before, timezone=timezone)
    freshline = shared_freshline()
    tenant_id = freshline.settings.tenant_id
    found = ask(moment, include_lapsed=lapsed, database=freshline.database, tenant_id=tenant_id)
    if as_json:
        print_json(list(found))
        return
    columns = ("deployment", "version", "freshness", "data until", "warns", "lapses", "policy")
    zone = moment.tzinfo
    rows = (
        (
            one.deployment,
            f"v{one.version}",
            one.freshness,
            one.data_end,
            _shown(one.warns_at, zone),
            _shown(one.lapses_at, zone),
            _written(one.policy),
        )
        for one in found
    )
    console().print(table(f"What lapses by {_shown(moment, zone)}: {len(found):,}", columns, rows))


def _shown(moment: datetime | None, zone: tzinfo | None) -> str | None:
    return None if moment is None else f"{moment.astimezone(zone):%a %Y-%m-%d %H:%M %Z}"


def _written(policy: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in policy.items())
