"""Bars of numbers by name: one scale, and small probabilities that can still be told from none."""

import pytest

from pitfalls import pictures
from tests.pictures.reading import check


def test_probabilities_are_written_as_in_the_other_pictures():
    figure = check(pictures.bars({"raw": 0.672, "template": 2e-9}, "Ending at once", form="%"))
    assert "raw 67.2%, template <0.001%" in figure.alt
    assert {" 67.2%", " <0.001%"} <= {text.get_text() for text in figure.axes[0].texts}


@pytest.mark.parametrize("second", [{"a": 1, "b": 0.5}, {"a": 1, "c": 0.5}])
def test_panels_have_one_scale_and_share_their_names_where_they_are_the_same(second):
    first, other = check(pictures.bars({"left": {"a": 2, "b": 4}, "right": second}, "Two panels")).axes
    assert first.get_xlim() == other.get_xlim()
    assert [axis.yaxis_inverted() for axis in (first, other)] == [True, True], "the first name stands on top"
    shown = [label.get_visible() for label in other.get_yticklabels()]
    assert any(shown) == (list(second) != ["a", "b"])
