"""How outcomes are shown: what was measured, what follows from it, and who took part."""

from collections.abc import Iterator, Sequence

from .comparisons import Kind
from .harness import Outcome


def report(outcomes: Sequence[Outcome]) -> Iterator[str]:
    """Yield the lines of a report on these outcomes."""
    yield "median [min-max] of the rounds"
    yield from _table(
        ("work", "role", "value", "unit", "better", "rounds"),
        [
            (
                outcome.work.name,
                role,
                str(measured),
                outcome.work.unit,
                "higher" if outcome.work.higher_is_better else "lower",
                str(outcome.rounds),
            )
            for outcome in outcomes
            for role, measured in outcome.measured.items()
        ],
    )
    yield ""
    yield "comparisons, paired in each round; median [min-max]"
    yield from _table(
        ("work", "comparison", "result", "target"),
        [
            (
                outcome.work.name,
                str(finding.comparison),
                f"{finding.values} {'x' if finding.comparison.kind == Kind.RATIO else outcome.work.unit}",
                finding.target,
            )
            for outcome in outcomes
            for finding in outcome.findings()
        ],
    )
    for outcome in outcomes:
        yield ""
        yield f"{outcome.work.name}: {outcome.work.what}"
        for role, subject in outcome.subjects.items():
            yield f"  {role}: {subject.name}; {subject.durability or 'stores nothing of its own'}"


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip(heads, *rows, strict=True)]
    for row in (heads, *rows):
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
