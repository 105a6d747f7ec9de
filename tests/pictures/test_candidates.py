"""Figures of what could come next: the candidates of a step, of several, and of a turn of the loop."""

import pytest
import torch

from pitfalls import pictures
from pitfalls.inspector.rows import Candidate, Step
from pitfalls.pictures.drawing import visible
from tests.pictures.reading import (
    boxes,
    call_of,
    check,
    columns,
    framed,
    is_style,
    names,
    percentages,
    step,
    taken,
    title,
)


def logits_of(shares: dict[int, float], vocabulary: int = 300) -> torch.Tensor:
    rest = (1 - sum(shares.values())) / (vocabulary - len(shares))
    probabilities = torch.full((vocabulary,), rest)
    for token_id, share in shares.items():
        probabilities[token_id] = share
    return probabilities.log()


def test_next_token_of_logits(tokenizer):
    figure = check(pictures.next_token(logits_of({216: 0.7, 198: 0.2, 50: 0.07}), tokenizer, top=3))
    assert names(figure) == ["·", "⏎", tokenizer.decode([50])]
    assert percentages(figure) == ["70.0%", "20.0%", "7.0%"]
    assert title(figure) == "'·' gets 70.0%; these 3 tokens share 97.0%"
    assert framed(figure) == []


def test_panels_and_pictures_that_are_compared_share_a_scale(tokenizer):
    sure, unsure = logits_of({60: 0.9}), logits_of({60: 0.3})
    figure = check(pictures.next_token({"sure": sure, "unsure": unsure}, tokenizer, top=2))
    (sure_bar, *_), (unsure_bar, *_) = ([bar.get_window_extent().width for bar in axis.patches] for axis in figure.axes)
    assert sure_bar == pytest.approx(3 * unsure_bar, rel=0.02)
    alone = [pictures.next_token(logits, tokenizer, top=2, most=1) for logits in (sure, unsure)]
    one, other = (check(figure).axes[0] for figure in alone)
    assert one.get_xlim() == other.get_xlim() and one.get_xlim()[1] > 1


def test_marked_tokens_have_another_colour_and_one_panel_gives_the_order(tokenizer):
    panels = {"with": logits_of({50: 0.6, 60: 0.3}), "without": logits_of({50: 0.01, 60: 0.9})}
    fifty, sixty = tokenizer.batch_decode([[50], [60]])
    figure = check(pictures.next_token(panels, tokenizer, top=2, marked=[sixty], order="with"))
    assert names(figure) == [fifty, sixty] and framed(figure) == []
    one, other = (bar.get_facecolor() for bar in figure.axes[0].patches)
    assert one != other
    assert names(pictures.next_token(panels, tokenizer, top=2)) == [sixty, fifty], "the largest bar of all is on top"
    with pytest.raises(ValueError, match=r"one of the panels, \['with', 'without'\], and not 'alone'"):
        pictures.next_token(panels, tokenizer, order="alone")


def test_first_bar_is_on_top(tokenizer):
    bottom, top = pictures.next_token(logits_of({60: 0.6, 50: 0.3}), tokenizer, top=2).axes[0].get_ylim()
    assert bottom > top


def test_next_token_of_a_step(tokenizer, two_steps):
    figure = check(pictures.next_token(two_steps.steps[0], tokenizer))
    assert names(figure) == ["·Paris", "·the", "·city"] and percentages(figure) == ["70.0%", "20.0%", "5.0%"]
    assert framed(figure) == [0]
    assert title(figure) == "'·Paris' gets 70.0%; these 3 tokens share 95.0%"


def test_a_less_likely_token_that_was_taken_is_shown(tokenizer, two_steps):
    figure = check(pictures.next_token(two_steps.steps[1], tokenizer))
    assert names(figure)[-1] == "·zebra" and percentages(figure)[-1] == "0.4%"
    assert framed(figure) == [len(names(figure)) - 1]


def test_only_the_taken_one_of_equal_looking_tokens_is_framed(tokenizer):
    part, other = Candidate(160, "�", 0.5), Candidate(161, "�", 0.3)
    one = Step(other, [part, other], 0.0, 1.0)
    assert framed(pictures.next_token(one, tokenizer)) == [1]
    assert framed(pictures.loop(call_of(tokenizer, [50], [[161]], steps=[one]), tokenizer, 0), panel=1) == [1]


def test_next_token_of_several_logits(tokenizer):
    panels = {"with": logits_of({50: 0.6, 60: 0.3}), "without": logits_of({50: 0.01, 60: 0.9, 70: 0.05})}
    figure = check(pictures.next_token(panels, tokenizer, top=2))
    assert [axis.get_title() for axis in figure.axes] == ["with", "without"]
    assert names(figure) == [tokenizer.decode([60]), tokenizer.decode([50])], "the largest bar of all is on top"
    assert percentages(figure) == ["30.0%", "60.0%"] and percentages(figure, 1) == ["90.0%", "1.0%"]
    assert title(figure).startswith(f"'{visible(tokenizer.decode([50]))}' gets 60.0%"), "as the first panel says"
    best = names(check(pictures.next_token(panels, tokenizer, top=4)))
    assert best == [tokenizer.decode([number]) for number in (60, 50, 70)], "those of the second panel too"


def test_what_a_filter_cut_is_shown_with_nothing_and_adds_no_bars(tokenizer):
    logits = logits_of({50: 0.6, 60: 0.3, 70: 0.05})
    panels = {"all": logits, "cut": logits.masked_fill(logits < logits[50], -torch.inf)}
    figure = check(pictures.next_token(panels, tokenizer, top=6))
    assert names(figure) == [tokenizer.decode([number]) for number in (50, 60, 70)]
    assert percentages(figure, 1) == ["100.0%", "cut", "cut"]
    assert [bar.get_linewidth() > 0 for bar in figure.axes[1].patches] == [True, False, False], "no bar"


@pytest.mark.parametrize(
    ("share", "shown"), [(0.999, "99.9%"), (0.001, "0.1%"), (0.0004, "0.04%"), (0.00003, "0.003%"), (1e-7, "<0.001%")]
)
def test_small_percentages(share, shown, tokenizer):
    figure = pictures.next_token({"": logits_of({50: 0.999}), "b": logits_of({50: share})}, tokenizer, top=1)
    assert percentages(figure, 1)[0] == shown


@pytest.mark.parametrize("logits", [torch.randn(5), torch.randn(5).bfloat16(), torch.randn(5, requires_grad=True)])
def test_more_bars_than_the_vocabulary_has(logits, tokenizer):
    figure = check(pictures.next_token(logits, tokenizer, top=10))
    assert len(names(figure)) == 5 and title(figure).endswith("these 5 tokens share 100.0%")


def test_long_tokens_are_cut(tokenizer):
    longest = max(range(len(tokenizer)), key=lambda i: len(tokenizer.decode([i])))
    figure = check(pictures.next_token(logits_of({50: 0.5, longest: 0.4}, len(tokenizer)), tokenizer, top=2))
    assert names(figure)[1] == visible(tokenizer.decode([longest]))[:13] + "…"


def test_generation(tokenizer, two_steps):
    figure = check(pictures.generation(two_steps, top=3))
    assert title(figure) == "In 1 of 2 steps the likeliest token was taken"
    assert columns(figure) == [["·Paris\n70%", "·the\n20%", "·city\n5%"], ["·Paris\n70%", "·the\n20%", "·zebra\n<1%"]]
    assert taken(figure) == ["·Paris\n70%", "·zebra\n<1%"]
    ticks = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert ticks[:2] == ["1.", "2."] and ticks[2] != "3.", "the zebra is not the third likeliest"


def test_a_likelier_candidate_is_darker(two_steps):
    shown = boxes(pictures.generation(two_steps, steps=1).axes[0])
    light = [sum(patch.get_facecolor()[:3]) for _, patch in shown]
    assert [text.split("\n")[1] for text, _ in shown] == ["70%", "20%", "5%"] and light == sorted(light)


def test_generation_from_a_later_step(tokenizer, two_steps):
    figure = check(pictures.generation(two_steps, first=1))
    assert title(figure) == "In 0 of 1 steps the likeliest token was taken"
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()] == ["step 2"]


def test_a_marked_step_stands_in_a_frame_of_its_own(tokenizer, two_steps):
    plain, marked = (pictures.generation(two_steps, first=1, top=3, marked=steps) for steps in ([0], [0, 1]))
    assert len(check(plain).axes[0].patches) == 3, "step 0 is not shown"
    frame = check(marked).axes[0].patches[-1]
    assert not frame.get_fill() and frame.get_x() == -0.5 and frame.get_height() > 3
    said = [figure.axes[0].get_xlabel() for figure in (plain, marked)]
    assert said == ["black frame: taken · darker: likelier"] + [
        "black frame: taken · orange: the step of the title · darker: likelier"
    ]


def test_nearly_certain_is_not_100_per_cent(tokenizer):
    call = call_of(tokenizer, [50], [[60]], steps=[step(tokenizer, {60: 0.996, 70: 0.004}, 60)])
    shares = [text.split("\n")[1] for text in columns(pictures.generation(call, top=2))[0]]
    assert shares == [">99%", "<1%"]


def test_generation_of_another_row(tokenizer, two_steps):
    call = call_of(tokenizer, [50], [[60], [70]])
    call.rows[1] = two_steps.rows[0]
    assert taken(pictures.generation(call, row=1))
    assert title(pictures.loop(call, tokenizer, 1, row=1)) == title(pictures.loop(two_steps, tokenizer, 1))


@pytest.mark.parametrize("steps", [8, 20])
def test_many_steps_with_long_tokens(steps, tokenizer):
    ids = tokenizer(" approximately <|im_start|> responsibility international").input_ids
    shares = {token_id: 0.9 / len(ids) for token_id in ids}
    call = call_of(tokenizer, [50], [[ids[0]] * 20], steps=[step(tokenizer, shares, ids[0])] * 20)
    figure = check(pictures.generation(call, steps=steps))
    assert len(columns(figure)) == steps


def test_loop(tokenizer, two_steps):
    figure = check(pictures.loop(two_steps, tokenizer, 1))
    above, _ = figure.axes
    assert "".join(word for word, _, _ in boxes(above)) == "The·capital·is·Paris"
    assert [is_style(patch, "new") for _, _, patch in boxes(above)] == [False, False, False, True]
    assert title(figure) == "Step 2: '·zebra' is taken, at 0.4%"
    assert names(figure, 1)[-1] == "·zebra" and framed(figure, 1) == [3]


def test_all_steps_of_a_row_have_one_size_with_room_for_its_text_and_no_more(tokenizer, two_steps):
    ids = tokenizer("The quick brown fox. " * 8).input_ids
    steps = [step(tokenizer, {i: 0.5, 50: 0.2}, i) for i in ids]
    long = call_of(tokenizer, [50], [ids], steps=steps)
    one_line, other = (pictures.loop(two_steps, tokenizer, n).get_figheight() for n in (0, 1))
    early, late = (check(pictures.loop(long, tokenizer, n)).get_figheight() for n in (0, len(ids) - 1))
    assert one_line == other < early == late


def test_loop_shows_the_end_of_a_long_text(tokenizer):
    prompt = tokenizer("The quick brown fox. " * 30).input_ids
    one = step(tokenizer, {50: 0.5, 60: 0.3}, 50)
    figure = check(pictures.loop(call_of(tokenizer, prompt, [[50]], steps=[one]), tokenizer, 0))
    found = [note for _, note, _ in boxes(figure.axes[0])]
    assert found == [str(token_id) for token_id in prompt[-len(found) :]] and len(found) > 10
