"""Numbers as JSON can have them: one that is not finite is a word, alike over HTTP and on the command line.

JSON has no such numbers, and null would say that there is no value.
"""

import math

WORDS = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}
"""How Python writes a number that is not finite -> the word for it."""


def in_json(value: float) -> float | str:
    """Return a number, or `NaN`, `Infinity` or `-Infinity`."""
    return value if math.isfinite(value) else WORDS[str(float(value))]
