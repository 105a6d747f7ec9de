"""Figures of how long rows are, and of what a budget cuts off."""

import pytest

from pitfalls import pictures
from pitfalls.inspector.call import Call
from pitfalls.inspector.rows import Row
from tests.pictures.reading import boxes, check, is_style, names, seen, title


def row(prompt: int, new: int, stopped_by: str = "length", text: str = "A prompt") -> Row:
    return Row([50] * prompt, [60] * new, text, "", stopped_by, [])


def styles(figure, name: str) -> list[tuple[int, int]]:
    """Line and column of the boxes of a style."""
    found = [patch for *_, patch in boxes(figure.axes[0]) if is_style(patch, name)]
    return sorted((round(p.get_y() + 0.36), round(p.get_x() - 0.06)) for p in found)


BATCH = Call(rows=[row(3, 5), row(2, 3, "end-of-sequence", "Another")])


def test_rows_of_a_call_begin_their_new_tokens_together_and_wait_for_the_longest():
    figure = check(pictures.lengths(BATCH))
    assert names(figure) == ["A·prompt", "Another"] and title(figure) == "From 3 to 5 new tokens"
    assert styles(figure, "prompt") == [(0, -3), (0, -2), (0, -1), (1, -2), (1, -1)]
    assert styles(figure, "end") == [(1, 2)] and styles(figure, "special") == [(1, 3), (1, 4)]
    assert "5 new, stopped by length" in seen(figure) and "3 new, end-of-sequence" in seen(figure)
    assert "'Another': 2 prompt tokens, 3 new, end-of-sequence" in figure.alt


def test_a_budget_cuts_with_scissors():
    figure = check(pictures.lengths(BATCH, budget=2))
    assert title(figure) == "A budget of 2 new tokens cuts off 2 of 2 rows"
    assert styles(figure, "padding") == [(0, 2), (0, 3), (0, 4), (1, 2)]
    assert not styles(figure, "end") and not styles(figure, "special") and seen(figure).count("✂ budget 2") == 1, (
        "one for all"
    )
    whole = check(pictures.lengths(BATCH, budget=3))
    assert (
        title(whole).endswith("1 of 2 rows")
        and styles(whole, "end") == [(1, 2)]
        and seen(whole).count("✂ budget 3") == 1
    )


def test_calls_by_name_begin_at_their_own_beginning():
    calls = {"short": Call(rows=[row(2, 4)]), "long": Call(rows=[row(5, 1), row(1, 9)])}
    figure = check(pictures.lengths(calls, title="Six tokens together"))
    assert names(figure) == ["short", "long"] and title(figure) == "Six tokens together"
    assert styles(figure, "prompt")[:2] == [(0, 0), (0, 1)] and styles(figure, "new")[-1] == (1, 5)
    assert not styles(figure, "special")


CALLS = {"short": Call(rows=[row(2, 4)]), "long": Call(rows=[row(5, 1)])}


@pytest.mark.parametrize(("source", "limit", "place"), [(CALLS, 6, 6), (BATCH, 5, 2)])
def test_a_limit_is_a_line_where_prompt_and_new_tokens_are_that_many(source, limit, place):
    figure = check(pictures.lengths(source, limit=limit))
    (line,) = figure.axes[0].get_lines()
    assert list(line.get_xdata()) == [place, place], "from the first token of the longest prompt"
    assert f"✂ max_length={limit}" in seen(figure) and f"a line at max_length={limit}. " in figure.alt


@pytest.mark.parametrize("rows", [[row(1, 0)], [row(1, 1)], [row(40, 100), row(2, 7)], [row(2, 3, text="x")] * 2])
def test_few_and_many_tokens(rows):
    figure = check(pictures.lengths(Call(rows=rows)))
    assert len(names(figure)) == len(rows)


@pytest.mark.parametrize("source", [{}, Call(), [1, 2], {"a": 1}, {"a": Call()}])
def test_what_it_does_not_take(source):
    with pytest.raises(ValueError, match="takes a recorded call"):
        pictures.lengths(source)


def test_a_budget_is_one_or_more():
    with pytest.raises(ValueError, match="`budget` is 1 or more"):
        pictures.lengths(BATCH, budget=0)
    with pytest.raises(ValueError, match="`limit` is 1 or more"):
        pictures.lengths(BATCH, limit=0)
