"""Figures of the places of a batch over time."""

import pytest
from matplotlib.colors import to_hex

from pitfalls import pictures
from pitfalls.pictures.drawing import BAR
from pitfalls.pictures.slots import continuous, static
from tests.pictures.reading import check, is_style, seen, title

LENGTHS = {"A": 24, "B": 8, "C": 9, "D": 20}


def test_who_holds_a_place_and_which_does_nothing():
    figure = check(pictures.slots(LENGTHS, 2))
    assert title(figure) == "4 answers on 2 places: 44 steps in static batches, 37 with continuous batching"
    texts = seen(figure)
    assert all(texts.count(name) == 2 for name in LENGTHS) and "place 2" in texts
    above, below = figure.axes
    assert sum(is_style(bar, "padding") for bar in above.patches) == 2
    assert not any(is_style(bar, "padding") for bar in below.patches)
    assert {to_hex(bar.get_facecolor()) for bar in below.patches} == {BAR}, "and not the orange of what is marked"
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert legend == ["writes", "done, and held", "free for the next request"]
    assert above.get_xlim() == below.get_xlim(), "one scale"
    assert above.patches[-1].get_window_extent().x1 < above.bbox.x1 - 2, "with room for the last edge"
    assert "place 2, 8 to 24: nobody" in figure.alt and "place 2, 17 to 37: D" in figure.alt
    assert title(check(pictures.slots({"A": 3}, 4, "One alone"))) == "One alone"
    for axis in pictures.slots({"A": 24}, 1).axes:
        assert [tick for tick in axis.get_xticks() if tick <= 24] == list(range(0, 25, 4)), "whole steps, the last too"


def test_every_answer_gets_its_steps_and_no_two_a_place_at_once():
    for spans in (static(LENGTHS, 3), continuous(LENGTHS, 3)):
        assert {who: end - start for _, start, end, who in spans if who} == LENGTHS
        held = [(place, step) for place, start, end, _ in spans for step in range(start, end)]
        assert len(held) == len(set(held))


@pytest.mark.parametrize("wrong", [{}, [24, 8], None, {"A": "long"}])
def test_what_it_takes(wrong):
    with pytest.raises(ValueError, match="the lengths of answers by name"):
        pictures.slots(wrong, 2)
