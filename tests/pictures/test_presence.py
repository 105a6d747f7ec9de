"""Figures of what is there at each step."""

import pytest
from matplotlib.colors import to_hex

from pitfalls import pictures
from pitfalls.pictures.drawing import BAR, BAR_CHOSEN
from tests.pictures.reading import check, names, seen, title

STEPS = {"as found": {"b", "late", "early"}, "one fix, two gone": {"late", "hidden"}, "done": set()}


def test_each_name_has_a_row_and_what_comes_later_is_new():
    figure = check(pictures.presence(STEPS))
    assert title(figure) == "3 at first, 0 at last"
    assert names(figure) == ["b", "early", "late", "hidden", "together"], "what goes first stands on top"
    assert [text for text in seen(figure) if text.isdigit()] == ["3", "2", "0"] and seen(figure).count("new") == 1
    colours = {
        (round(box.get_x() + 0.46), round(box.get_y() + 0.4)): to_hex(box.get_facecolor())
        for box in figure.axes[0].patches
    }
    assert colours == {(0, 0): BAR, (0, 1): BAR, (0, 2): BAR, (1, 2): BAR, (1, 3): BAR_CHOSEN}
    assert "as found: b, early, late; one fix, two gone: hidden, late; done: nothing." in figure.alt


def test_nothing_at_all():
    assert title(check(pictures.presence({"now": []}, "Silent"))) == "Silent"


@pytest.mark.parametrize("wrong", [{}, [1], {"a": "text"}, None])
def test_what_it_takes(wrong):
    with pytest.raises(ValueError, match="names by step"):
        pictures.presence(wrong)
