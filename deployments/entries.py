"""Prefect's own keys of one deployment in prefect.yaml, as far as Freshline needs them.

Owns what makes them usable for us; whatever else Prefect allows there is left to Prefect.
"""

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, ParamSpec, TypeVar

from ..storage.errors import CatalogError, InvalidInput, nearest_names
from .document import kind_of, line_of, plain

P = ParamSpec("P")
T = TypeVar("T")

_VARIABLE = re.compile(r"\{\{\s*\$(\w+)\s*\}\}")
_FORBIDDEN_IN_NAMES = "/%&><"  # Prefect refuses these in a deployment's name
_RULES = ("cron", "interval", "rrule")
_SCHEDULE_KEYS = (
    *_RULES,
    "timezone",
    "anchor_date",
    "active",
    "parameters",
    "slug",
    "replaces",
    "day_or",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One entry of `deployments:`."""

    name: str
    """Prefect's name of the deployment, without its flow's."""
    entrypoint: str
    parameters: Mapping[str, Any]
    schedules: tuple[Mapping[str, Any], ...]
    work_pool: str | None
    description: str | None
    tags: tuple[str, ...]
    line: int | None
    lines: Mapping[str, int | None]
    """Where each key is written; a parameter's under `parameters.<name>`."""

    def error(self, key: str, message: str) -> CatalogError:
        """Return the error with the place of this key."""
        return CatalogError(message, deployment=self.name, line=self.lines.get(key) or self.line)

    def at(self, key: str, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call the function; its `InvalidInput` gets the place of this key.

        Raises:
            CatalogError: the function raised `InvalidInput`.
        """
        try:
            return function(*args, **kwargs)
        except InvalidInput as error:
            raise self.error(key, str(error)) from None


def read_entry(node: Mapping[str, Any], *, line: int | None) -> Entry:
    """Return Prefect's own keys of a deployment that has a `resource:` block.

    `{{ $VARIABLE }}` in the name, the entrypoint and the work pool is filled in from the environment, as
    `prefect deploy` does.

    Raises:
        CatalogError: with the deployment, the line and the fix.
    """
    lines = {str(key): line_of(node, key) for key in node}
    written = node.get("name")
    if not isinstance(written, str) or not written.strip():
        raise CatalogError(
            "a deployment with a `resource:` block needs a `name`; add one", line=lines.get("name") or line
        )
    name = str(written)

    def fail(key: str, message: str) -> CatalogError:
        return CatalogError(message, deployment=name, line=lines.get(key) or line)

    def text(key: str, value: Any) -> str:
        if not isinstance(value, str) or not value.strip():
            raise fail(key, f"`{key}` must be text, not {kind_of(value)}")
        try:
            return _filled(str(value))
        except InvalidInput as error:
            raise fail(key, f"`{key}`: {error}") from None

    def values(key: str, kind: type[T], what: str) -> T:
        value = node.get(key)
        if value is None:
            return kind()
        try:
            value = plain(value)
        except ValueError as error:
            raise fail(key, f"`{key}`: {error}") from None
        if not isinstance(value, kind):
            raise fail(key, f"`{key}` must be {what}, not {kind_of(value)}")
        return value

    if node.get("entrypoint") is None:
        raise fail(
            "entrypoint",
            "has no `entrypoint`; name its flow: `flows/file.py:function` or `package.module.function`",
        )
    shown = text("name", written)
    if bad := [character for character in _FORBIDDEN_IN_NAMES if character in shown]:
        raise fail("name", f"Prefect allows no {' or '.join(bad)} in a deployment's name; rename it")
    parameters: dict[str, Any] = values("parameters", dict, "a mapping")
    lines |= {f"parameters.{key}": line_of(node["parameters"], key) for key in parameters}
    pool = values("work_pool", dict, "a mapping with the key `name`").get("name")
    tags: Any = plain(node.get("tags")) if isinstance(node.get("tags"), str) else values("tags", list, "a list")
    description = node.get("description")
    return Entry(
        name=shown,
        entrypoint=text("entrypoint", node.get("entrypoint")),
        parameters=parameters,
        schedules=_schedules(values, fail),
        work_pool=text("work_pool", pool) if pool is not None else None,
        description=text("description", description) if description is not None else None,
        tags=(tags,) if isinstance(tags, str) else tuple(str(tag) for tag in tags),
        line=line,
        lines=lines,
    )


def _filled(value: str) -> str:
    def look_up(match: re.Match[str]) -> str:
        variable = match.group(1)
        if not os.environ.get(variable):
            raise InvalidInput(f"the environment variable {variable} is not set; set it, or write the value")
        return os.environ[variable]

    value = _VARIABLE.sub(look_up, value)
    if "{{" in value:
        raise InvalidInput(f"{value!r} has a template that is no environment variable; write the value out")
    return value


def _schedules(values: Callable[..., Any], fail: Callable[[str, str], CatalogError]) -> tuple[Mapping[str, Any], ...]:
    schedules = list(values("schedules", list, "a list"))
    key = "schedules"
    if not schedules and (single := values("schedule", dict, "a mapping")):
        schedules, key = [single], "schedule"
    for schedule in schedules:
        if not isinstance(schedule, Mapping):
            raise fail(key, f"a schedule must be a mapping like {{cron: …}}, not {kind_of(schedule)}")
        problem = _schedule_problem(schedule)
        if problem:
            raise fail(key, f"the schedule {dict(schedule)!r} cannot be read: {problem}")
    return tuple(schedules)


def _schedule_problem(schedule: Mapping[str, Any]) -> str | None:
    """Return what Prefect would refuse in this schedule: it would say so with half of the file deployed."""
    for key in schedule:
        if key not in _SCHEDULE_KEYS:
            near = nearest_names(key, _SCHEDULE_KEYS) or _RULES
            return f"unknown key {key!r}; did you mean {' or '.join(near)}?"
    rules = [rule for rule in _RULES if schedule.get(rule) is not None]
    if len(rules) != 1:
        return f"it needs exactly one of {', '.join(_RULES)}"
    if "{{" in str(schedule):
        return None  # Prefect fills templates in when it deploys
    from prefect.client.schemas.schedules import CronSchedule, IntervalSchedule, RRuleSchedule
    from pydantic import ValidationError

    options = {key: schedule[key] for key in ("timezone", "day_or") if schedule.get(key) is not None}
    rule = schedule[rules[0]]
    try:
        if rules[0] == "cron":
            CronSchedule(cron=rule, **options)
        elif rules[0] == "interval":
            interval = timedelta(seconds=rule) if isinstance(rule, int | float) else rule
            IntervalSchedule(interval=interval, timezone=options.get("timezone"))
        elif not str(rule).lstrip().startswith("{"):
            RRuleSchedule(rrule=rule, timezone=options.get("timezone"))
    except ValidationError as error:
        first = error.errors()[0]
        return f"{'.'.join(map(str, first['loc'])) or rules[0]}: {first['msg'].removeprefix('Value error, ')}"
    except (ValueError, OverflowError) as error:
        return str(error)
    return None
