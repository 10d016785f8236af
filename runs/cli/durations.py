"""Spans of time and shares as people write them on the command line; given to click as callbacks of options."""

import re
from datetime import timedelta

import click

from ...storage.durations import LONGEST, read_duration

_SHARE = re.compile(r"(\d{1,3}(?:\.\d{1,6})?)%|(0?\.\d{1,9}|1(?:\.0*)?)")


def span(_ctx: click.Context, _param: click.Parameter, value: str | None) -> timedelta | None:
    """Return a span of time such as 7d, 1d12h or 0s; none when nothing was said."""
    if value is None:
        return None
    try:
        found = read_duration(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None
    if found > LONGEST:
        raise click.BadParameter(f"{value!r} is longer than 100 years")
    return found


def share(_ctx: click.Context, _param: click.Parameter, value: str) -> float:
    """Return a share such as 5% or 0.05: above 0 and up to 1."""
    found = _SHARE.fullmatch(value)
    shared = 0.0 if found is None else float(found[1]) / 100 if found[1] is not None else float(found[2])
    if not 0 < shared <= 1:
        raise click.BadParameter(f"{value!r} is no share; write a number above 0% and up to 100%, such as 5%")
    return shared
