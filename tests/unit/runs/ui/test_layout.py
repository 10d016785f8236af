"""Where the deployments stand in a drawing: every edge goes to the right, nothing lies on anything, always the same."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from freshline.runs.ui.layout import BETWEEN_LAYERS, _layout, layout


@st.composite
def graphs(draw, most_nodes):
    num_nodes = draw(st.integers(0, most_nodes))
    pairs = st.tuples(st.integers(0, max(num_nodes - 1, 0)), st.integers(0, max(num_nodes - 1, 0)))
    drawn = draw(st.lists(pairs, max_size=3 * num_nodes)) if num_nodes > 1 else []
    return num_nodes, [(min(pair), max(pair)) for pair in drawn if pair[0] != pair[1]]


def check(num_nodes, edges):
    """Lay it out, and see that the rules hold; a node is less than one wide and less than one high."""
    places = layout(num_nodes, edges)
    assert len(places) == num_nodes
    assert all(places[reader].x > places[read].x + 0.98 for read, reader in edges)
    by_column = sorted(places)
    for at, one in enumerate(by_column):
        for other in by_column[at + 1 :]:
            if other.x - one.x > 0.98:
                break
            assert abs(other.y - one.y) > 0.98
    assert all(place.x >= 0 and place.y >= 0 for place in places)
    return places


@given(graphs(most_nodes=24))
@settings(max_examples=40, deadline=None)
def test_edges_go_to_the_right_and_no_node_lies_on_another(graph):
    check(*graph)


@pytest.mark.slow
@given(graphs(most_nodes=400))
@settings(max_examples=400, deadline=None)
def test_large_graphs_keep_the_same_rules(graph):
    check(*graph)


@given(graphs(most_nodes=12), st.randoms(use_true_random=False))
@settings(max_examples=20, deadline=None)
def test_layout_is_the_same_every_time_whatever_the_order_of_the_edges(graph, chance):
    num_nodes, edges = graph
    shuffled = chance.sample(edges, len(edges))
    first = layout(num_nodes, edges)
    _layout.cache_clear()
    assert layout(num_nodes, shuffled) == first


@pytest.mark.parametrize("num_nodes", [0, 1, 2])
def test_few_nodes_without_edges_have_their_places(num_nodes):
    assert len(set(check(num_nodes, []))) == num_nodes


def test_chain_is_a_straight_line():
    places = check(4, [(0, 1), (1, 2), (2, 3)])
    assert {place.y for place in places} == {0.0}
    assert [place.x for place in places] == pytest.approx([step * (1 + BETWEEN_LAYERS) for step in range(4)])


def test_diamond_is_symmetric():
    top, above, below, bottom = check(4, [(0, 1), (0, 2), (1, 3), (2, 3)])
    assert above.x == below.x
    assert abs(above.y - below.y) == 1.0
    assert top.y == bottom.y == pytest.approx((above.y + below.y) / 2)


def test_layer_of_two_thousand_is_folded_to_the_shape_of_a_screen():
    places = check(2001, [(0, reader) for reader in range(1, 2001)])
    height = max(place.y for place in places)
    assert height < 150
    assert len({place.x for place in places}) > 10


def test_parts_that_do_not_hang_together_are_set_beside_each_other():
    edges = [(4 * part + step, 4 * part + step + 1) for part in range(100) for step in range(3)]
    places = check(400, edges)
    assert max(place.y for place in places) < 60


def test_edges_over_thousands_of_layers_are_laid_out_in_bounded_work():
    # Each layer that an edge passes would be a node more: here two million.
    long = [(first, first + 1000) for first in range(0, 1000)]
    check(2000, [*((step, step + 1) for step in range(1999)), *long])


def test_circle_has_a_layout_and_at_least_one_edge_goes_back():
    places = layout(3, [(0, 1), (1, 2), (2, 0), (1, 1)])
    assert len(set(places)) == 3
