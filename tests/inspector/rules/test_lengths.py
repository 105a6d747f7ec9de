"""The rules of pitfalls/inspector/rules/lengths.py: a section for each, in their order."""

import re

import pytest
import torch
from transformers import GenerationConfig

import pitfalls
from tests.helpers import END, tiny_llama
from tests.inspector.rules.calls import (
    ASKED,
    BEGUN,
    BOS,
    COMPLETIONS,
    TALE,
    THINKING,
    bare,
    chat_of,
    explained,
    ids,
    prefilled,
    rules,
    variant,
    watched,
)

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


# --- length -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("settings", [{}, {"do_sample": True}, {"generation_config": GenerationConfig(num_beams=2)}])
def test_length_without_a_budget(settings, tiny, tokenizer):
    report = pitfalls.check(tiny, tokenizer, bare(tokenizer, "1, 2, 3,"), **settings)
    finding = next(finding for finding in report if finding.rule == "length")
    assert finding.severity == "warning" and "20 new tokens" in finding.message


@pytest.mark.parametrize(
    "settings",
    [
        {"max_new_tokens": 1},
        {"max_length": 100},
        {"max_time": 5.0},
        {"generation_config": GenerationConfig(max_new_tokens=9)},
    ],
)
def test_length_is_silent_where_a_budget_is_given(settings, tiny, tokenizer):
    inputs = bare(tokenizer, "1, 2, 3,")
    assert "length" not in pitfalls.check(tiny, tokenizer, inputs, **settings).rules
    assert "length" not in pitfalls.check(variant(tiny, max_new_tokens=9), tokenizer, inputs).rules


def test_length_speaks_after_the_call_only_if_a_row_was_cut(tiny, tokenizer):
    inputs = bare(tokenizer, "1, 2, 3,", "4, 5, 6,")
    cut = watched(tiny, tokenizer, inputs, [80, END], [80], max_new_tokens=None)
    assert "20 new tokens" in cut["length"].message
    assert "length" not in watched(tiny, tokenizer, inputs, [80, END], [80, 81, END], max_new_tokens=None)


def test_length_of_an_answer_that_is_nothing_but_white_space(tiny, tokenizer):
    inputs = bare(tokenizer, "1, 2, 3,")
    assert "budget of 6 new tokens" in watched(tiny, tokenizer, inputs, "\n\n\n\n\n\n\n\n")["length"].message
    assert "budget of 6 new tokens" in watched(tiny, tokenizer, inputs, [BOS])["length"].message
    assert "length" not in watched(tiny, tokenizer, inputs, "\n\n 4")
    assert "length" not in watched(tiny, tokenizer, inputs, [*tokenizer("\n").input_ids, END])


# --- max-length -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("total", "severity", "numbers"),
    [(10, "error", "max_length=10 .* 30 tokens"), (30, "error", "max_length=30 .* 30 tokens"),
     (36, "warning", "max_length=36 .* 30 tokens too: only 6")],
)  # fmt: skip
def test_max_length_that_the_prompt_has_used_up(total, severity, numbers, tiny, tokenizer):
    finding = rules(tiny, tokenizer, ids([50] * 30), max_length=total, max_new_tokens=None)["max-length"]
    assert finding.severity == severity and re.search(numbers, finding.message)


def test_max_length_counts_the_padding_and_may_come_from_the_model(tiny, tokenizer):
    padded = tokenizer("1, 2, 3", padding="max_length", max_length=25, return_tensors="pt")
    found = rules(variant(tiny, max_length=25), tokenizer, padded, max_new_tokens=None)
    assert found["max-length"].severity == "error" and "25 tokens already" in found["max-length"].message


@pytest.mark.parametrize("settings", [{"max_length": 200}, {"max_length": 8, "max_new_tokens": 8}, {"max_length": 31}])
def test_max_length_with_room_or_outvoted_is_fine(settings, tiny, tokenizer):
    width = 12 if settings["max_length"] == 31 else 20
    found = rules(tiny, tokenizer, ids([50] * width), **{"max_new_tokens": None} | settings)
    assert set(found) <= {"two-lengths"}


def test_max_length_after_the_call(tiny, tokenizer):
    long = ids([50] * 30)
    assert watched(tiny, tokenizer, long, [80], max_length=36, max_new_tokens=None)["max-length"].severity == "warning"
    assert "max-length" not in watched(tiny, tokenizer, long, [80, END], max_length=36, max_new_tokens=None)
    note = explained(tiny, tokenizer, lambda: tiny.generate(**long, max_length=20))["max-length"]
    assert "max_length=20" in note and "30 tokens" in note


# --- two-lengths ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "settings",
    [
        {"max_length": 99, "max_new_tokens": 7},
        {"generation_config": GenerationConfig(max_length=99), "max_new_tokens": 7},
    ],
)
def test_two_lengths_of_the_caller(settings, tiny, tokenizer):
    finding = rules(tiny, tokenizer, ids([50, 51]), **settings)["two-lengths"]
    assert finding.severity == "warning" and "max_length=99" in finding.message and "=7" in finding.message


def test_two_lengths_one_of_them_from_the_model(tiny, tokenizer):
    finding = rules(variant(tiny, max_length=77), tokenizer, ids([50, 51]), max_new_tokens=7)["two-lengths"]
    assert finding.severity == "note" and "77 comes from the model" in finding.message


@pytest.mark.parametrize("settings", [{"max_new_tokens": 7}, {"max_length": 99, "max_new_tokens": None}])
def test_one_length_is_fine(settings, tiny, tokenizer):
    assert not rules(tiny, tokenizer, ids([50, 51]), **settings)
    assert "two-lengths" not in rules(variant(tiny, max_new_tokens=7), tokenizer, ids([50, 51]), max_new_tokens=9)


# --- context-window ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def small_window(tokenizer):
    return tiny_llama(len(tokenizer), window=16)


@pytest.mark.parametrize(("width", "severity"), [(10, "warning"), (16, "error"), (20, "error")])
def test_context_window(width, severity, small_window, tokenizer):
    finding = rules(small_window, tokenizer, ids([50] * width), max_new_tokens=7)["context-window"]
    assert finding.severity == severity and f"{width} " in finding.message and "16" in finding.message


def test_context_window_is_passed_by_the_default_budget(small_window, tokenizer):
    assert "up to 20 new" in rules(small_window, tokenizer, ids([50]), max_new_tokens=None)["context-window"].message


@pytest.mark.parametrize("settings", [{"max_new_tokens": 6}, {"max_new_tokens": None, "max_length": 16}])
def test_context_window_that_is_just_filled(settings, small_window, tokenizer):
    assert "context-window" not in rules(small_window, tokenizer, ids([50] * 10), **settings)


def test_context_window_after_the_call(small_window, tokenizer):
    prompt = ids([50] * 10)
    assert "context-window" in watched(small_window, tokenizer, prompt, [80], max_new_tokens=9)
    assert "context-window" not in watched(small_window, tokenizer, prompt, [80, END], max_new_tokens=900)


# --- thinking-budget --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", THINKING)
def test_thinking_budget(name, speaker):
    own, model = speaker(name)
    for chat in (ASKED, TALE):
        assert "100 new tokens" in rules(model, own, chat_of(own, chat), max_new_tokens=100)["thinking-budget"].message
        assert "thinking-budget" not in rules(model, own, chat_of(own, chat), max_new_tokens=2000)


@pytest.mark.parametrize("name", THINKING)
def test_thinking_budget_of_an_answer_that_has_begun(name, speaker):
    own, model = speaker(name)
    assert "thinking-budget" not in rules(model, own, prefilled(own, BEGUN), max_new_tokens=50)


def test_thinking_switched_off_needs_no_budget(speaker):
    own, model = speaker("qwen-3")
    assert not rules(model, own, chat_of(own, ASKED, enable_thinking=False), max_new_tokens=50)
    switched = [{"role": "user", "content": "What is the capital of France? /no_think"}]
    assert not rules(model, own, chat_of(own, switched), max_new_tokens=50)


@pytest.mark.parametrize("text", COMPLETIONS.values(), ids=COMPLETIONS)
def test_thinking_models_complete_a_text_without_thoughts(text, speaker):
    own, model = speaker("qwq")
    assert not rules(model, own, bare(own, text), max_new_tokens=50)


def test_thinking_budget_after_the_call(speaker):
    own, model = speaker("qwq")
    inputs = chat_of(own, ASKED)
    found = watched(model, own, inputs, "They ask for a city, which city", max_new_tokens=7)
    assert "All 7 new tokens are thoughts" in found["thinking-budget"].message
    said = "A city.</think>Paris, of course"
    assert "thinking-budget" not in watched(model, own, inputs, said, max_new_tokens=7)
    assert "thinking-budget" not in watched(model, own, inputs, [90, 91, own.eos_token_id], max_new_tokens=7)


# --- empty-prompt -----------------------------------------------------------------------------------------------


def test_empty_prompt(tiny, tokenizer):
    nothing = {"input_ids": torch.empty((1, 0), dtype=torch.long)}
    assert "The prompt has no tokens" in rules(tiny, tokenizer, nothing)["empty-prompt"].message
    assert "Row 1" in rules(tiny, tokenizer, bare(tokenizer, "1, 2, 3", ""))["empty-prompt"].message
    masked = ids([50, 51], [60, 61], mask=[[0, 0], [1, 1]])
    assert "Row 0" in rules(tiny, tokenizer, masked)["empty-prompt"].message


@pytest.mark.parametrize("given", [ids([BOS]), ids([50]), ids([END]), ids([END, END, 50], mask=[[0, 0, 1]])])
def test_a_short_prompt_is_not_empty(given, tiny, tokenizer):
    assert "empty-prompt" not in rules(tiny, tokenizer, given)


def test_embeddings_as_inputs_are_no_empty_prompt(tiny, tokenizer):
    assert "empty-prompt" not in rules(tiny, tokenizer, {"inputs_embeds": torch.zeros(1, 3, tiny.config.hidden_size)})
    assert "empty-prompt" not in watched(tiny, tokenizer, {"inputs_embeds": torch.zeros(1, 3, tiny.config.hidden_size)})
