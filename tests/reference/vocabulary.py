"""Settings, exit codes, and which status may follow which."""

from typing import Any

from pydantic_core import PydanticUndefined

from freshline.runs import cli
from freshline.runs.status import TRANSITIONS
from freshline.storage.settings import Settings, is_secret

from .docstrings import described, in_a_cell
from .tables import table

_SHOWN = {
    "home": "`~/.freshline`",
    "database_url": "`freshline.db` in the home",
    "artifacts_url": "`artifacts` in the home",
}
"""Defaults that depend on the machine."""
_SEE = {
    "system_metrics": "[how the machine is used](../how-to/log-metrics.md#see-how-the-machine-is-used)",
    "artifacts_retry_s": "[a store that is busy](../how-to/run-on-postgres-and-s3.md"
    "#a-store-that-is-busy-slow-or-breaks-off)",
    "artifacts_block": "[credentials](../how-to/run-on-postgres-and-s3.md#credentials-of-the-object-store)",
    "gc_every_s": "[for good](../how-to/keep-and-delete.md#for-good)",
    "gc_grace_s": "[for good](../how-to/keep-and-delete.md#for-good)",
    "api_url": "[workers without the database's password](../how-to/run-on-postgres-and-s3.md"
    "#workers-without-the-databases-password)",
    "api_token": "[use the REST API](../how-to/use-the-rest-api.md)",
    "store_id": "[on Postgres and S3](../how-to/run-on-postgres-and-s3.md)",
}
"""Where to read on."""


def settings(_: str) -> str:
    """Every variable with its default and what it does."""
    texts = described(Settings)
    rows = []
    for name, field in Settings.model_fields.items():
        said = in_a_cell(texts[name])
        if is_secret(name):
            said += ". Kept out of messages and logs"
        if name in _SEE:
            said += f"; see {_SEE[name]}"
        shown = _SHOWN.get(name) or _default(field.default)
        rows.append((f"`FRESHLINE_{name.upper()}`", shown, said))
    return table(("variable", "default", "meaning"), rows)


def _default(value: Any) -> str:
    if value is None or value is PydanticUndefined:
        return "none"
    if isinstance(value, bool):
        return f"`{value:d}`"
    return f"`{value:.15g}`" if isinstance(value, float) else f"`{value}`"


def exit_codes(_: str) -> str:
    """Every exit code of the command line."""
    texts = described(cli)
    codes = {getattr(cli, name): text for name, text in texts.items() if name.startswith("EXIT_")}
    assert all(codes.values()), "an exit code has no text under it"
    rows = [(str(code), in_a_cell(text)) for code, text in sorted({0: "Done.", **codes}.items())]
    return table(("code", "meaning"), rows)


def transitions(_: str) -> str:
    """Which status may follow which."""
    rows = [
        (f"`{status}`", ", ".join(f"`{target}`" for target in sorted(following)) or "nothing: it has ended")
        for status, following in TRANSITIONS.items()
    ]
    return table(("status", "may be followed by"), rows)
