"""Figures of counts, with the interval of the true share."""

import pytest

from pitfalls import pictures
from pitfalls.pictures.shares import wilson
from tests.pictures.reading import check, names, percentages, title

COUNTS = {"names it": {"before": 10, "after": 12}, "is exactly it": {"before": 0, "after": 5}}


def test_bars_with_intervals_side_by_side():
    figure = check(pictures.shares(COUNTS, 12, "Twelve questions"))
    assert title(figure) == "Twelve questions" and names(figure) == ["before", "after"]
    assert percentages(figure) == ["10 of 12", "12 of 12"] and percentages(figure, 1) == ["0 of 12", "5 of 12"]
    assert "names it: before 10 of 12, 55% to 95%; " in figure.alt
    assert figure.get_supxlabel().startswith("bar: counted of 12 · line: 95% Wilson interval"), "once for both"
    first, second = figure.axes
    assert first.get_xlim() == second.get_xlim(), "one scale"
    assert len(first.containers) == 1 + 2, "the bars, and a line for each"


def test_one_panel():
    check(pictures.shares({"before": 3, "after": 4}, 5, "One"))


@pytest.mark.parametrize(("hits", "expected"), [(0, (0, 24)), (5, (19, 68)), (10, (55, 95)), (12, (76, 100))])
def test_wilson(hits, expected):
    assert tuple(round(100 * end) for end in wilson(hits, 12)) == expected


@pytest.mark.parametrize("wrong", [{}, None, {"a": 13}, {"a": -1}, {"a": "3"}, {"a": 2.5}])
def test_what_it_takes(wrong):
    with pytest.raises(ValueError, match="`shares` takes numbers of hits"):
        pictures.shares(wrong, 12, "Title")
