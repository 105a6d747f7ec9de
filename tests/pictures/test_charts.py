"""Figures of measurements: bars that are compared share a scale, and curves differ in more than their colour."""

import pytest

from pitfalls import pictures
from tests.pictures.reading import check, names, percentages, seen, title


def lengths(figure, panel: int = 0) -> list[float]:
    """Of the bars, in pixels."""
    return [bar.get_window_extent().width for bar in figure.axes[panel].patches]


def test_bars_carry_their_numbers_and_are_as_long_as_these():
    figure = check(pictures.bars({"fp32": 7.5, "nf4": 15.0}, "Twice", "{:.1f}", "perplexity", marked=["nf4"]))
    assert names(figure) == ["fp32", "nf4"] and percentages(figure) == ["7.5", "15.0"] and title(figure) == "Twice"
    short, long = lengths(figure)
    assert long == pytest.approx(2 * short, rel=0.01)
    first, second = figure.axes[0].patches
    assert first.get_facecolor() != second.get_facecolor()
    assert figure.alt == "Twice. Bars, perplexity. fp32 7.5, nf4 15.0."


def test_panels_share_one_scale():
    figure = check(pictures.bars({"1 row": {"a": 10, "b": 5}, "64 rows": {"a": 1, "b": 2}}, "Two", "{:.0f} ms"))
    (a, b), (other_a, other_b) = lengths(figure), lengths(figure, 1)
    assert a == pytest.approx(10 * other_a, rel=0.02) and b == pytest.approx(2.5 * other_b, rel=0.02)
    assert {"1 row", "64 rows", "10 ms", "1 ms"} <= {text.strip() for text in seen(figure)}


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


def test_nothing_but_zeros_can_be_drawn():
    check(pictures.bars({"a": 0, "b": 0}, "None of them"))


@pytest.mark.parametrize("values", [{}, [1, 2], {"a": "1"}, {"a": -1}, {"a": None}, {"panel": {"a": "1"}}])
def test_what_are_no_bars_is_refused(values):
    with pytest.raises(ValueError, match="`bars` takes numbers by name"):
        pictures.bars(values, "Title")


def test_curves_begin_at_zero_and_can_be_told_apart():
    lines = {"plain": ([1, 2, 3], [20.0, 40.0, 60.0]), "cached": ([1, 2, 3], [20.0, 21.0, 22.0])}
    figure = check(pictures.curves(lines, "The cache saves work", x="tokens", y="ms"))
    axis = figure.axes[0]
    assert axis.get_ylim()[0] == 0, "a height is a number"
    plain, cached = axis.get_lines()
    assert plain.get_linestyle() != cached.get_linestyle() and plain.get_marker() != cached.get_marker()
    assert "plain goes from 20 at 1 to 60 at 3; cached goes from 20 at 1 to 22 at 3." in figure.alt


def test_steps_hold_until_the_next_point():
    (line,) = (
        pictures.curves({"text": ([0, 1, 3], [0, 4, 9])}, "T", "seconds", "letters", steps=True).axes[0].get_lines()
    )
    assert line.get_drawstyle() == "steps-post"


def test_a_smooth_line_and_one_in_steps():
    lines = {"smooth": ([0, 1, 3], [0, 4, 9]), "stairs": ([0, 1, 3], [0, 5, 5])}
    figure = check(pictures.curves(lines, "T", "weights", "value", steps=["stairs"]))
    smooth, stairs = figure.axes[0].get_lines()
    assert smooth.get_drawstyle() == "default" and stairs.get_drawstyle() == "steps-post"
    assert smooth.get_marker() == stairs.get_marker() == "None", "many points, and no marks"


def test_a_note_stands_at_its_point_and_numbers_are_told_as_numbers():
    lines = {"margin": ([1, 4096], [0.0821, 3.0])}
    figure = check(pictures.curves(lines, "T", "step", "logits", notes={"nearly a tie": (1, 0.0821)}))
    (note,) = figure.axes[0].texts
    assert note.get_text() == "nearly a tie" and note.xy == (1, 0.0821)
    told = "margin goes from 0.0821 at 1 to 3 at 4,096; at 1, 0.0821: nearly a tie."
    assert figure.alt == f"T. Curves, logits over step: {told}"


@pytest.mark.parametrize("lines", [{}, [1, 2], None])
def test_what_are_no_curves_is_refused(lines):
    with pytest.raises(ValueError, match="`curves` takes pairs"):
        pictures.curves(lines, "Title", "x", "y")
