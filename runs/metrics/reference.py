"""The reference page of the metrics, written from the classes: `docs/reference/metrics.md` is its output.

python -m freshline.runs.metrics.reference > docs/reference/metrics.md
"""

import sys
from collections.abc import Iterator, Sequence

from ..details import run_type
from .model import Convention, Definition, Missing, RiskFreeBasis
from .registry import METRICS_OF

_INTRODUCTION = """\
# Standard metrics

Every run type has a class of metrics. A flow returns one; the record keeps each number with its unit and the convention
that it was computed with, because the same returns have another Sharpe ratio with 252 and with 365 periods a year.

This page is written from the classes; `python -m freshline.runs.metrics.reference` prints it.

- A metric that does not apply is absent. NaN and infinities are values: they say that a number is undefined, and how.
- `fraction` means 0.05 for five percent; `%` means 5. Losses, drawdowns and value at risk are negative.
- Metrics that a flow computes itself are recorded with their unit alone, unless it says how, with
  `convention=Convention(...)`.
- Names and formulas of backtests agree with empyrical where it has the metric.
- **The bundled demonstration prices are survivors**: stocks that failed before the end of 2022 are not among them.
  Every Sharpe ratio computed on them, and every ratio like it, is too high.
"""

_GAPS = """\
## Missing returns

The first return may be NaN, as `pct_change` leaves it: it is left out. Any other NaN is refused with its dates, unless
the convention says what it means. A benchmark must have a return on each date of the strategy.
"""

_CONVENTION = """\
## Convention

What is recorded beside a metric, as far as its value depends on it (the column *convention* above), with the library
that computed it and its version.
"""

_DEFLATED = """\
## Deflated Sharpe ratio

`deflated_sharpe_ratio(returns, sharpe_of_trials)` is the probability that the true Sharpe ratio exceeds what the best
of so many trials shows by luck alone (Bailey & López de Prado 2014). It is no metric of a run: the number of trials
grows after the run has ended.
"""

_MEANING_OF = {
    "periods_per_year": "rows per year: 252 exchange days, 365 calendar days, 52, 12; refused when the dates "
    "contradict it by more than a factor of 2",
    "risk_free_rate": "the risk-free rate, a fraction",
    "risk_free_basis": "what the rate is of: " + ", ".join(f"`{basis}`" for basis in RiskFreeBasis),
    "ddof": "standard deviations divide by n − ddof",
    "calendar": "the calendar whose days are counted",
    "missing": "what NaN inside the returns means: " + ", ".join(f"`{choice}`" for choice in Missing),
    "library": "what computed the number",
    "library_version": "its version",
    "details": "what else was chosen, by metric name",
}


def metrics_reference() -> str:
    """Return the page in Markdown: a table per run type, then the convention."""
    parts = [_INTRODUCTION]
    for kind, metrics in METRICS_OF.items():
        summary = (metrics.__doc__ or "").strip().replace("\n    ", "\n")
        rows = [_row(definition) for definition in metrics.definitions().values()]
        table = _table(("metric", "unit", "formula", "convention", "source"), rows)
        parts.append(f"## {run_type(kind)}\n\n`{metrics.__name__}`, deployment kind `{kind}`. {summary}\n\n{table}")
    convention = [(f"`{name}`", _default(name), _MEANING_OF[name]) for name in Convention.model_fields]
    parts.append(_CONVENTION + "\n" + _table(("field", "default", "meaning"), convention))
    return "\n".join([*parts, _GAPS, _DEFLATED])


def _row(definition: Definition) -> tuple[str, ...]:
    formula = definition.formula + (f". **{definition.note}**" if definition.note else "")
    return (
        f"`{definition.name}`",
        definition.unit,
        formula,
        ", ".join(_conventions(definition)),
        definition.source or "",
    )


def _conventions(definition: Definition) -> Iterator[str]:
    yield from definition.uses
    for name, value in definition.fixed.items():
        yield f"{name}: {str(value).lower() if isinstance(value, bool) else value}"


def _default(name: str) -> str:
    value = Convention.model_fields[name].get_default(call_default_factory=True)
    return f"`{value:g}`" if isinstance(value, float) else f"`{value}`" if value not in (None, {}) else ""


def _table(header: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [header, tuple("---" for _ in header), *rows]
    return "".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |\n" for line in lines)


if __name__ == "__main__":
    sys.stdout.write(metrics_reference())
