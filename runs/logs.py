"""What Freshline's programs log: plain lines, or one JSON object a line, each event with the same fields.

Owns the fields, the two formats, and what is blotted out. Decides nothing about when something is logged: whoever
changes a run calls `run_event` once its transaction is committed. Flows under Prefect do not come through here; they
log with Prefect's own handlers.
"""

import json
import logging
import re
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, TextIO

from ..storage.ids import show_run_id

FIELDS = ("actor", "run_id", "deployment", "status", "stop_reason")
"""What is said of a run, in this order; `module`, who says it, comes with every line."""

_ROOT = "freshline"
_ATTRIBUTE = "freshline_fields"
_BLOT = "***"
# A secret gets into a line as part of somebody else's message: a driver's error, a URL.
_SECRETS = (
    (re.compile(r"(://[^/\s:@]*):[^\s@]+@"), rf"\1:{_BLOT}@"),
    (re.compile(r"(?i)\b(bearer|basic)\s+[\w.~+/=-]{8,}"), rf"\1 {_BLOT}"),
    (
        re.compile(
            r"""(?i)([\w-]*(?:passw(?:or)?d|secret|api[_-]?key|access[_-]?key|token|signature)[\w-]*["']?\s*[=:]\s*)"""
            r"""("[^"]*"|'[^']*'|[^\s,;&"'})]+)"""
        ),
        rf"\1{_BLOT}",
    ),
)


def run_event(
    logger: logging.Logger,
    message: str,
    *,
    run: Any,
    actor: str,
    deployment: str | None = None,
    level: int = logging.INFO,
) -> None:
    """Log that something happened to a run; call it once, after the commit.

    `run` is its row, or anything with `id`, `deployment_id`, `status` and `stop_reason`, as it is now. Without the key
    of its `deployment` the line has the deployment's id.
    """
    if not logger.isEnabledFor(level):
        return
    fields = {
        "actor": actor,
        "run_id": show_run_id(run.id),
        "deployment": deployment or str(run.deployment_id),
        "status": str(run.status),
        "stop_reason": str(run.stop_reason) if run.stop_reason is not None else None,
    }
    logger.log(level, "%s", message, extra={_ATTRIBUTE: fields}, stacklevel=2)


def deployment_event(
    logger: logging.Logger, message: str, *, deployment: str, freshness: str, actor: str, level: int = logging.INFO
) -> None:
    """Log that something happened to a deployment without a run; call it once, after the commit.

    `deployment` is its key, `freshness` what it is now.
    """
    fields = {"actor": actor, "deployment": deployment, "freshness": str(freshness)}
    logger.log(level, "%s", message, extra={_ATTRIBUTE: fields}, stacklevel=2)


def configure(log_format: str = "text", *, stream: TextIO | None = None) -> logging.Handler:
    """Write what Freshline logs, from INFO on, to the error stream (or another one), and nowhere else.

    For programs, not for libraries. `log_format` is text or json. Again replaces what was configured before.
    """
    logger = logging.getLogger(_ROOT)
    for handler in [one for one in logger.handlers if isinstance(one.formatter, _Formatter)]:
        logger.removeHandler(handler)
    made = logging.StreamHandler(stream or sys.stderr)
    made.setFormatter(JsonFormatter() if log_format == "json" else TextFormatter())
    logger.addHandler(made)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    return made


def without_secrets(text: str) -> str:
    """Return the text with passwords, tokens and keys blotted out, as far as they can be recognised."""
    for pattern, blotted in _SECRETS:
        text = pattern.sub(blotted, text)
    return text


class _Formatter(logging.Formatter):
    """What both formats share."""

    def message_of(self, record: logging.LogRecord) -> str:
        return without_secrets(record.getMessage())

    def trace_of(self, record: logging.LogRecord) -> str | None:
        return without_secrets(self.formatException(record.exc_info)) if record.exc_info else None


class JsonFormatter(_Formatter):
    """One JSON object a line: at, level, module, message, the fields of a run or deployment, exception."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        line = {
            "at": _moment(record).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "module": _module(record),
            "message": self.message_of(record),
            **_fields(record),
        }
        if (trace := self.trace_of(record)) is not None:
            line["exception"] = trace
        return json.dumps(line)


class TextFormatter(_Formatter):
    """Time, level, module and message, then the fields as name=value; a traceback follows below."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        moment = _moment(record).strftime("%Y-%m-%d %H:%M:%SZ")
        # One event, one line: what comes from elsewhere may not look like a line of its own.
        message = self.message_of(record).replace("\r", "\\r").replace("\n", "\\n")
        fields = "".join(f" {name}={value}" for name, value in _fields(record).items() if value is not None)
        line = f"{moment} {record.levelname:7} {_module(record)}: {message}{fields}"
        trace = self.trace_of(record)
        return line if trace is None else f"{line}\n{trace}"


def _fields(record: logging.LogRecord) -> Mapping[str, Any]:
    fields: Mapping[str, Any] = getattr(record, _ATTRIBUTE, {})
    return fields


def _moment(record: logging.LogRecord) -> datetime:
    return datetime.fromtimestamp(record.created, UTC)


def _module(record: logging.LogRecord) -> str:
    return record.name.removeprefix(f"{_ROOT}.")
