"""The benchmark of the page's graph, with few deployments: it opens, draws, clicks, and checks what it was shown."""

import pytest

from benchmarks import page_graph
from benchmarks.harness import FLOOR, OURS, Setting

pytestmark = [pytest.mark.browser, pytest.mark.slow]


def test_page_is_opened_and_clicked_and_the_floor_asks_for_the_same(tmp_path):
    with page_graph.prepare(480, Setting(tmp_path, with_peers=False, tell=lambda _: None)) as subjects:
        assert 0 < subjects[OURS].measure() < 60
        assert 0 < subjects[FLOOR].measure() < 60
        assert 0 < subjects[OURS].measure() < 60
