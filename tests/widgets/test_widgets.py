"""Each widget says what transformers does, and asks the model once for each state."""

import re
from collections import Counter
from html import unescape
from itertools import zip_longest

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pitfalls import record
from pitfalls.pictures.drawing import percent, visible
from pitfalls.widgets import ChatTemplate, Length, Loop, NextToken, Padding
from pitfalls.widgets.next_token import SHOWN, apply_settings
from tests.widgets.reading import CAPITAL, TEXTS, boxes, button, counted, said

REFUSING = "{{ raise_exception('no chat here') }}"


@pytest.fixture(scope="module")
def cat(model, tokenizer):
    """The prompt's ids and the logits of the next token, straight from the model."""
    inputs = tokenizer("I am a cat.", return_tensors="pt")
    with torch.no_grad():
        return inputs["input_ids"], model(**inputs).logits[0, -1]


# --- the next token ---


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    temperature=st.sampled_from([0.1, 0.7, 1.0, 1.5, 3.0]),
    top_k=st.sampled_from([0, 1, 5, 50]),
    top_p=st.sampled_from([0.05, 0.5, 0.9, 1.0]),
    min_p=st.sampled_from([0.0, 0.05, 0.5]),
    repetition_penalty=st.sampled_from([1.0, 1.3, 2.0]),
)
def test_scores_are_those_that_generate_samples_from(model, cat, **chosen):
    ids, logits = cat
    options = {"do_sample": True, "max_new_tokens": 1, "output_scores": True, "return_dict_in_generate": True}
    expected = model.generate(ids, attention_mask=torch.ones_like(ids), **options, **chosen).scores[0][0]
    scores, cut = apply_settings(ids, logits, **chosen)
    torch.testing.assert_close(scores, expected, rtol=1e-4, atol=1e-4)
    gone = torch.stack([*cut.values(), torch.zeros_like(scores, dtype=torch.bool)])
    assert torch.equal(gone.any(0), torch.isinf(expected)), "what is cut has the name of a filter"
    assert gone.sum(0).max() <= 1, "and of one only"


def test_next_token_shows_the_probabilities_of_transformers(model, tokenizer, cat):
    ids, logits = cat
    widget = NextToken(model, tokenizer, "I am a cat.")
    own = logits.softmax(-1)
    assert re.search(rf"·She\s+{percent(own.max().item())}", said(widget))
    widget.settings["temperature"].value, widget.settings["top_k"].value = 1.5, 5
    scores, _ = apply_settings(ids, logits, temperature=1.5, top_k=5)
    now = scores.softmax(-1)
    for token_id in own.topk(SHOWN).indices.tolist():
        text = visible(tokenizer.decode([token_id]))
        shown = percent(now[token_id].item()) if now[token_id] else "cut by top-k"
        assert re.search(rf"(?<!\S){re.escape(text)}\s+{shown}", said(widget)), text
    assert said(widget).count("cut by top-k") == SHOWN - 5
    assert "5 of 49,152 tokens can be drawn" in widget.summary()
    assert "cut by the filters" in said(widget), "all the others are gone"


def test_each_filter_is_named(model, tokenizer):
    widget = NextToken(model, tokenizer)
    for name, value in {"top_k": 3, "top_p": 0.3, "min_p": 0.4}.items():
        widget.settings[name].value, before = value, widget.settings[name].value
        assert f"cut by {name.replace('_', '-')}" in said(widget)
        widget.settings[name].value = before
    assert "cut by" not in said(widget)


def test_sliders_do_not_ask_the_model(model, tokenizer):
    with counted(model) as calls:
        widget = NextToken(model, tokenizer)
        for slider in widget.settings.values():
            slider.value = slider.min + 0.3 * (slider.max - slider.min)
        widget.figure()
        button(widget, "sample 100").click()
        assert len(calls) == 1
        widget.prompt.value = "Once upon a time"
        widget.prompt.value = "I am a cat."
        assert len(calls) == 2, "each prompt once"


def test_sample_100_draws_from_what_is_left(model, tokenizer, cat):
    widget = NextToken(model, tokenizer, "I am a cat.")
    widget.settings["top_k"].value = 4
    expected = apply_settings(*cat, top_k=4)[0].softmax(-1)
    torch.manual_seed(7)
    state, total = torch.get_rng_state(), Counter()
    for _ in range(30):
        button(widget, "sample 100").click()
        counts = [int(count) for count in re.findall(r"(\d+) ×", said(widget))]
        assert len(counts) == SHOWN + 1 and sum(counts) == 100 and sum(counts[4:]) == 0
        total.update(dict(enumerate(counts)))
    assert torch.equal(torch.get_rng_state(), state), "the reader's own random numbers"
    for place, probability in enumerate(expected.topk(4).values.tolist()):
        spread = (3000 * probability * (1 - probability)) ** 0.5
        assert abs(total[place] - 3000 * probability) < 5 * spread
    widget.settings["top_k"].value = 5
    assert "×" not in said(widget), "those draws were from another distribution"


# --- length ---


@pytest.mark.parametrize("budget", [1, 29, 30, 31])
def test_a_budget_keeps_what_generate_would(model, tokenizer, counting, budget):
    widget = Length(counting, tokenizer)
    inputs = {"input_ids": counting.input_ids, "attention_mask": counting.attention_mask}
    for number, real in enumerate(record(model, tokenizer, inputs, max_new_tokens=budget).rows):
        widget.row.value, widget.budget.value = number, budget
        kept = widget.kept()
        assert (kept.new_ids, kept.new_text, kept.stopped_by) == (real.new_ids, real.new_text, real.stopped_by)
        assert len(boxes(widget, "dropped")) == len(counting.rows[number].new_ids) - len(kept.new_ids)
        total = len(real.prompt_ids) + len(real.new_ids)
        assert f"stopped by {real.stopped_by}" in said(widget)
        assert f"{len(real.prompt_ids)} of {total} tokens" in said(widget)


def test_length_shows_where_the_end_token_came(tokenizer, counting):
    widget = Length(counting, tokenizer)
    widget.row.value, widget.budget.value = 1, 40
    assert boxes(widget, "end") == ["<|im_end|>"]
    assert "30 new tokens, 10 of the budget unused, stopped by end-of-sequence" in said(widget)
    widget.budget.value = 20
    assert boxes(widget, "end") == [] and boxes(widget, "dropped")[-1] == "<|im_end|>"


# --- padding ---


def test_padding_shows_what_each_row_goes_on_with(model, tokenizer):
    widget = Padding(model, tokenizer, TEXTS)
    alone = [record(model, tokenizer, tokenizer(t, return_tensors="pt"), max_new_tokens=12).new_ids for t in TEXTS]
    seen, masks = {}, {"tokenizer's": "the tokenizer's mask", "all ones": "a mask of ones"}
    for side in ["left", "right"]:
        for mask in masks:
            widget.side.value, widget.mask.value = side, mask
            inputs = tokenizer(TEXTS, padding=True, padding_side=side, return_tensors="pt")
            if mask == "all ones":
                inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
            rows = [row.new_ids for row in record(model, tokenizer, inputs, max_new_tokens=12).rows]
            assert [row.new_ids for row in widget.rows()] == rows
            same = seen[side, mask] = sum(row == single for row, single in zip(rows, alone, strict=True))
            assert f"Padding {side}, {masks[mask]}: {same} of 2 rows" in said(widget)
            pairs = [pair for row, single in zip(rows, alone, strict=True) for pair in zip_longest(row, single)]
            assert len(boxes(widget, "changed")) == sum(a is not None and a != b for a, b in pairs)
            hidden = int((inputs["attention_mask"] == 0).sum())
            assert said(widget).count("mask 0") == hidden
    assert seen["left", "tokenizer's"] == 2 and seen["right", "tokenizer's"] == 1, "the lesson's claim"


def test_positions_count_what_the_mask_lets_through(model, tokenizer, few_tokens):
    widget = Padding(model, tokenizer, TEXTS)
    first = said(widget).split("row 1")[0]
    assert re.findall(r"pos (\d)", first) == [str(n) for n in range(7)]
    widget.mask.value = "all ones"
    assert re.findall(r"pos (\d)", said(widget).split("row 1")[0]) == [str(n) for n in range(9)]


def test_padding_asks_once_for_each_state(model, tokenizer, few_tokens):
    with counted(model) as calls:
        widget = Padding(model, tokenizer, TEXTS)
        assert len(calls) == 3, "the batch, and each row alone"
        for side in ["right", "left", "right", "left"]:
            widget.side.value = side
        widget.figure()
        assert len(calls) == 4


# --- the chat template ---


def ending(model, tokenizer, inputs) -> float:
    with torch.no_grad():
        return model(**inputs).logits[0, -1].softmax(-1)[tokenizer.eos_token_id].item()


def test_chat_says_how_likely_the_end_is(model, tokenizer):
    widget = ChatTemplate(model, tokenizer, CAPITAL)
    chat = tokenizer.apply_chat_template(CAPITAL, add_generation_prompt=True, return_dict=True, return_tensors="pt")
    templated = ending(model, tokenizer, chat)
    assert f"ends its turn at once with {percent(templated)}" in said(widget) and templated < 0.001
    widget.template.value = False
    raw = ending(model, tokenizer, tokenizer(CAPITAL[0]["content"], return_tensors="pt"))
    assert f"ends its turn at once with {percent(raw)}" in said(widget) and raw > 0.5


def test_chat_renders_what_the_tokenizer_renders(model, tokenizer):
    widget = ChatTemplate(model, tokenizer, CAPITAL)
    for system in [False, True]:
        for prompted in [False, True]:
            widget.system.value, widget.prompted.value = system, prompted
            expected = tokenizer.apply_chat_template(widget.messages(), tokenize=False, add_generation_prompt=prompted)
            rendered = re.search(r'<div class="pf-chat">(.*?)</div>', widget.view.value, flags=re.DOTALL)[1]
            assert unescape(re.sub("<[^>]+>", "", rendered)).replace("⏎", "") == expected
            assert ("pf-system" in rendered) == system and 'class="pf-user">What is' in rendered
    widget.turns[0][1].value = "Why is the sky blue?"
    assert 'class="pf-user">Why is the sky blue?</span>' in widget.view.value


def test_chat_says_what_a_template_refuses(model, tokenizer, monkeypatch):
    monkeypatch.setattr(tokenizer, "chat_template", REFUSING)
    widget = ChatTemplate(model, tokenizer, [{"role": "system", "content": "Be kind."}, *CAPITAL])
    assert "TemplateError: no chat here" in widget.status.value and not widget.view.value


# --- the loop ---


def test_loop_goes_forward_and_back(model, tokenizer):
    widget = Loop(model, tokenizer, "A list of colors: red, blue")
    call = record(model, tokenizer, tokenizer("A list of colors: red, blue", return_tensors="pt"), max_new_tokens=20)
    for at in range(3):
        assert boxes(widget, "chosen") == [visible(call.steps[at].chosen.text)]
        assert len(boxes(widget, "new")) == at
        for candidate in call.steps[at].candidates[:6]:
            assert percent(candidate.probability) in said(widget)
        button(widget, "forward →").click()
    button(widget, "← back").click()
    assert widget.step.value == 3
    widget.step.value = 1
    button(widget, "← back").click()
    assert widget.step.value == 1, "there is nothing before the first step"


def test_another_candidate_leads_where_generate_leads(model, tokenizer):
    widget = Loop(model, tokenizer, "A list of colors: red, blue", max_new_tokens=8)
    greedy = widget.call()
    widget.step.value = 3
    other = greedy.steps[2].candidates[1]
    with counted(model) as calls:
        button(widget, visible(other.text)).click()
        button(widget, visible(other.text)).click()
        assert len(calls) == 1, "a second click finds the way already taken"
    ids = torch.tensor([[*greedy.prompt_ids, *greedy.new_ids[:2], other.token_id]])
    rest = record(model, tokenizer, {"input_ids": ids}, max_new_tokens=5)
    call = widget.call()
    assert call.new_ids == [*greedy.new_ids[:2], other.token_id, *rest.new_ids]
    assert [step.chosen.token_id for step in call.steps] == call.new_ids and call.stopped_by == rest.stopped_by
    assert "was likelier" in said(widget) and "greedy:" in said(widget)
    button(widget, visible(greedy.steps[2].chosen.text)).click()
    assert widget.call().new_ids == greedy.new_ids and "greedy:" not in said(widget), "and back again"


def test_taking_the_end_token_ends_the_path(model, tokenizer):
    widget = Loop(model, tokenizer, "What is the capital of France?", max_new_tokens=6)
    assert widget.call().stopped_by == "end-of-sequence" and widget.step.max == 1
    other = widget.call().steps[0].candidates[1]
    button(widget, visible(other.text)).click()
    assert widget.step.max == len(widget.call().new_ids) == 6 and widget.call().stopped_by == "length"
    button(widget, "<|im_end|>").click()
    assert widget.step.max == 1 and widget.call().stopped_by == "end-of-sequence"
