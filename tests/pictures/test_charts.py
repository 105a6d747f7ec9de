"""Figures of measurements: bars that are compared share a scale, and curves differ in more than their colour."""

import pytest
from matplotlib.colors import to_hex

from pitfalls import pictures
from pitfalls.pictures.drawing import BAR, BAR_CHOSEN
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


def test_a_function_may_write_the_numbers_and_zero_has_no_bar():
    share = {0: "cut", 0.0002: "<0.1%"}
    figure = check(
        pictures.bars(
            {"kept": 0.5, "small": 0.0002, "gone": 0}, "Filtered", lambda value: share.get(value, f"{value:.0%}")
        )
    )
    assert percentages(figure) == ["50%", "<0.1%", "cut"] and figure.alt.endswith("kept 50%, small <0.1%, gone cut.")
    assert [bar.get_visible() for bar in figure.axes[0].patches] == [True, True, False]


def test_bars_can_be_marked_in_one_panel_only():
    panels = {"raw": {"a": 0.5, "b": 0.1}, "chat": {"a": 0.2, "b": 0.1}}
    figure = check(pictures.bars(panels, "One", label="chance", marked={"raw": ["a"]}))
    colours = [[to_hex(bar.get_facecolor()) for bar in axis.patches] for axis in figure.axes]
    assert colours == [[BAR_CHOSEN, BAR], [BAR, BAR]]


def test_a_marked_bar_can_be_told_where_it_is_too_short_to_be_filled():
    long, thin, other = pictures.bars({"a": 1, "b": 1e-5, "c": 1e-5}, "Gone", marked=["a", "b"]).axes[0].patches
    assert thin.get_edgecolor() == long.get_facecolor() and other.get_edgecolor() == long.get_edgecolor()


@pytest.mark.parametrize("second", [{"a": 1, "b": 0.5}, {"a": 1, "c": 0.5}])
def test_panels_have_one_scale_and_share_their_names_where_they_are_the_same(second):
    first, other = check(pictures.bars({"left": {"a": 2, "b": 4}, "right": second}, "Two panels")).axes
    assert first.get_xlim() == other.get_xlim()
    assert [axis.yaxis_inverted() for axis in (first, other)] == [True, True], "the first name stands on top"
    shown = [label.get_visible() for label in other.get_yticklabels()]
    assert any(shown) == (list(second) != ["a", "b"])


def test_panels_of_different_things_have_their_own_scales():
    panels = {"memory, MB": {"a": 1000, "b": 250}, "tokens per second": {"a": 5, "b": 20}}
    figure = check(pictures.bars(panels, "Two units", "{:,.0f}", shared=False))
    (a, b), (slow, fast) = lengths(figure), lengths(figure, 1)
    assert a == pytest.approx(fast, rel=0.02) and b == pytest.approx(slow, rel=0.02) and a == pytest.approx(4 * b)
    assert figure.alt == "Two units. Bars. memory, MB: a 1,000, b 250; tokens per second: a 5, b 20."


def test_bars_against_a_limit():
    figure = check(pictures.bars({"fp32": 29, "bf16": 14.5}, "T", "{:.1f} GB", line=("a 16 GB card", 16)))
    axis = figure.axes[0]
    (limit,) = axis.get_lines()
    assert list(limit.get_xdata()) == [16, 16] and "a 16 GB card" in seen(figure)
    first, second = axis.patches
    assert first.get_width() > 16 > second.get_width() and percentages(figure) == ["29.0 GB", "14.5 GB"]
    assert figure.alt.endswith("bf16 14.5 GB. A line at 16.0 GB: a 16 GB card.")
    assert [text.get_ha() for text in axis.texts] == ["left", "right"], "inside the bar, where the line is near"


def test_nothing_but_zeros_can_be_drawn():
    check(pictures.bars({"a": 0, "b": 0}, "None of them"))


@pytest.mark.parametrize("values", [{}, [1, 2], {"a": "1"}, {"a": -1}, {"a": None}, {"panel": {"a": "1"}}])
def test_what_are_no_bars_is_refused(values):
    with pytest.raises(ValueError, match="`bars` takes numbers by name"):
        pictures.bars(values, "Title")


def test_dots_stand_at_their_values_and_equal_ones_in_a_pile():
    figure = check(pictures.dots({"drawn": [0, 0.25, 0], "greedy": [1]}, "Apart", "{:.0%}", "repeated", end=1))
    drawn, greedy = ([tuple(place) for place in line.get_xydata()] for line in figure.axes[0].get_lines())
    assert sorted(x for x, _ in drawn) == pytest.approx([0, 0, 0.25], abs=0.01) and greedy[0][0] == 1
    assert len(set(drawn)) == 3, "one for each value can be seen"
    one, other = figure.axes[0].get_lines()
    assert one.get_marker() != other.get_marker() and names(figure) == ["drawn", "greedy"]
    assert figure.alt == "Apart. Dots, repeated. drawn: 0%, 0%, 25%; greedy: 100%."


@pytest.mark.parametrize("values", [{"a": [0.0, 0.0]}, {"a": [5, 1], "b": [2] * 30, "c": [7]}])
def test_dots_of_any_number(values):
    assert len(check(pictures.dots(values, "Many")).axes[0].get_lines()) == len(values)


@pytest.mark.parametrize("values", [{}, {"a": []}, [1, 2], {"a": 1}])
def test_what_are_no_dots_is_refused(values):
    with pytest.raises(ValueError, match="`dots` takes lists of numbers"):
        pictures.dots(values, "Title")


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


def test_curves_side_by_side_with_levels_and_a_band():
    panels = {
        "coarse": {"smooth": ([0, 1], [-1, 2]), "stairs": ([0, 1], [-1, 1])},
        "fine": {"smooth": ([0, 1], [-1, 2])},
    }
    levels = {"stairs": [-1, 0, 1]}
    figure = check(pictures.curves(panels, "T", "x", "y", steps=["stairs"], levels=levels, bands=[(-0.5, 0.5)]))
    coarse, fine = figure.axes
    assert [axis.get_title() for axis in figure.axes] == ["coarse", "fine"] and coarse.get_ylim() == fine.get_ylim()
    smooth, stairs, *marks = coarse.get_lines()
    assert [mark.get_ydata()[0] for mark in marks] == levels["stairs"] and len(fine.get_lines()) == 1
    assert {mark.get_color() for mark in marks} == {stairs.get_color()} != {smooth.get_color()}
    assert all(len(axis.patches) == 1 for axis in figure.axes), "the band"
    assert "coarse: stairs goes from -1 at 0 to 1 at 1; fine: smooth goes from -1 at 0 to 2 at 1." in figure.alt


def test_a_curve_over_names_with_its_values_on_a_logarithmic_axis():
    lines = {"product": (["1. ,", "2. ⏎", "3. ⏎"], [0.9, 0.01, 0.00004])}
    figure = check(pictures.curves(lines, "T", "token", "probability", form="%", log=True))
    axis = figure.axes[0]
    assert axis.get_yscale() == "log" and percentages(figure) == ["90.0%", "1.0%", "0.004%"]
    assert [label.get_text() for label in axis.get_xticklabels()] == ["1. ,", "2. ⏎", "3. ⏎"]
    assert {"100%", "0.01%"} <= set(seen(figure)), "the marks of the axis"
    assert "product goes from 90.0% at 1. , to 0.004% at 3. ⏎." in figure.alt


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
