"""The page of the metrics says what the classes say."""

from pathlib import Path

import pytest

from freshline.runs.metrics import METRICS_OF
from freshline.runs.metrics.reference import metrics_reference

PAGE = Path(__file__).parents[4] / "docs" / "reference" / "metrics.md"


def test_page_is_what_the_classes_say() -> None:
    assert PAGE.read_text(encoding="utf-8") == metrics_reference(), (
        "write it again: python -m freshline.runs.metrics.reference > docs/reference/metrics.md"
    )


def test_reference_has_a_row_for_every_metric() -> None:
    page = metrics_reference()

    for metrics in METRICS_OF.values():
        section = page.split(f"`{metrics.__name__}`")[1].split("\n## ")[0]
        for name, definition in metrics.definitions().items():
            assert f"\n| `{name}` | {definition.unit} |" in section


@pytest.mark.parametrize("name", ["sharpe_ratio", "probabilistic_sharpe_ratio", "expected_sharpe"])
def test_reference_says_beside_each_sharpe_ratio_that_the_demonstration_prices_are_survivors(name: str) -> None:
    (row,) = [line for line in metrics_reference().splitlines() if line.startswith(f"| `{name}`")]

    assert "The bundled demonstration prices are survivors" in row
