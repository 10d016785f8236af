"""How a deployment wants to be refreshed by itself: the catalogue reads it, the sweep keeps to it.

Owns the words and their bounds; knows neither the file that they stand in nor the runs that follow from them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import timedelta
from typing import Any

from .durations import as_written, read_duration
from .errors import InvalidInput, nearest_names

_LONGEST = timedelta(days=366)
_SHORTEST_PACE = timedelta(seconds=1)


@dataclass(frozen=True)
class AutoRefresh:
    """When a stale deployment gets a run that nobody asked for."""

    quiet: timedelta = timedelta(seconds=10)
    """Not before nothing upstream has changed for so long: a burst of changes is one run."""
    wait_at_most: timedelta = timedelta(minutes=10)
    """But after so long at the latest: changes that never cease do not put it off for ever."""
    at_most_every: timedelta = timedelta(minutes=1)
    """No two of these runs are submitted within a shorter time."""

    def to_json(self) -> dict[str, str]:
        """Return it as it is stored, every default resolved."""
        return {field.name: as_written(getattr(self, field.name)) for field in fields(self)}


def read_auto_refresh(written: Mapping[str, Any]) -> AutoRefresh:
    """Return what these options mean; `{}` is all defaults.

    Raises:
        InvalidInput: naming the option, the value and the fix.
    """
    known = [field.name for field in fields(AutoRefresh)]
    found: dict[str, timedelta] = {}
    for name, value in written.items():
        if name not in known:
            near = nearest_names(str(name), known)
            hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(known)}"
            raise InvalidInput(f"auto_refresh: unknown option {name!r}; {hint}")
        try:
            found[name] = read_duration(value)
        except ValueError as error:
            raise InvalidInput(f"auto_refresh: `{name}`: {error}") from None
        if found[name] > _LONGEST:
            raise InvalidInput(
                f"auto_refresh: `{name}`: {value!r} is longer than {as_written(_LONGEST)}; leave auto_refresh out if "
                "it is to be refreshed by hand"
            )
    terms = AutoRefresh(**found)
    if terms.at_most_every < _SHORTEST_PACE:
        raise InvalidInput(
            f"auto_refresh: `at_most_every` is {written['at_most_every']!r}, and a run that leaves its deployment "
            "stale would be followed by another one at once; write at least 1s"
        )
    if terms.wait_at_most < terms.quiet:
        raise InvalidInput(
            f"auto_refresh: `wait_at_most` ({as_written(terms.wait_at_most)}) is shorter than `quiet` "
            f"({as_written(terms.quiet)}), which would never be awaited; make it longer"
        )
    return terms
