"""How people write a length of time: 90m, 2h, 1d12h. Knows nothing of what it is for."""

import re
from datetime import timedelta

LONGEST = timedelta(days=36_525)
"""100 years: whoever writes more means something else."""

_WRITTEN = re.compile(r"(?:(\d+)w)?\s*(?:(\d+)d)?\s*(?:(\d+)h)?\s*(?:(\d+)m)?\s*(?:(\d+)s)?", re.IGNORECASE)
_UNITS = (
    ("w", timedelta(weeks=1)),
    ("d", timedelta(days=1)),
    ("h", timedelta(hours=1)),
    ("m", timedelta(minutes=1)),
    ("s", timedelta(seconds=1)),
)


def read_duration(value: object) -> timedelta:
    """Return the duration that a text means; one that no timedelta can hold is the longest that there is.

    Raises:
        ValueError: it is no duration; the message shows how to write one.
    """
    # pandas.Timedelta reads more, but warns of `1d`, and its `1M` is a minute.
    match = _WRITTEN.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is None or not any(match.groups()):
        raise ValueError(f"{value!r} is not a duration; write it like 90m, 2h, 1d12h or 1w")
    weeks, days, hours, minutes, seconds = (int(group or 0) for group in match.groups())
    try:
        return timedelta(weeks=weeks, days=days, hours=hours, minutes=minutes, seconds=seconds)
    except OverflowError:
        return timedelta.max


def as_written(duration: timedelta) -> str:
    """Return a duration as people write it, in whole seconds: 1d12h."""
    text = ""
    for sign, unit in _UNITS:
        many, duration = divmod(duration, unit)
        text += f"{many}{sign}" if many else ""
    return text or "0s"
