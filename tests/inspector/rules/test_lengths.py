"""The rules of pitfalls/inspector/rules/lengths.py: a section for each, in their order."""

import re

import pytest
import torch
from transformers import DynamicCache, GenerationConfig, T5Config, T5ForConditionalGeneration

import pitfalls
from tests.helpers import END, Script, tiny_llama
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
    with_template,
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


def test_length_of_one_token_that_is_white_space(tiny, tokenizer):
    for inputs in (bare(tokenizer, "True or false?\nAnswer:"), chat_of(tokenizer, ASKED)):
        assert watched(tiny, tokenizer, inputs, "\n", max_new_tokens=1)["length"].severity == "note"


def test_length_in_a_loop_of_one_token_a_call(tiny, tokenizer):
    line = tokenizer("\n").input_ids
    assert "length" not in watched(tiny, tokenizer, bare(tokenizer, "The capital is"), line, max_new_tokens=1)
    inputs, cache = bare(tokenizer, "The capital is:"), DynamicCache(config=tiny.config)
    with pitfalls.watch(tiny, tokenizer) as calls:
        ids = inputs["input_ids"]
        for _ in range(3):
            script = [Script(ids.shape[1], line)]
            ids = tiny.generate(ids, past_key_values=cache, max_new_tokens=1, logits_processor=script)
    assert len(calls) == 3 and "length" not in calls.report.rules


@pytest.mark.parametrize(
    "settings",
    [
        {"max_tokens": 5},
        {"max_new_token": 5},
        {"max_output_tokens": 5},
        {"generation_config": GenerationConfig(max_new_token=5)},
        {"custom_generate": lambda model, input_ids, **settings: input_ids},
    ],
)
def test_length_is_silent_where_a_length_is_misspelt_or_other_code_generates(settings, tiny, tokenizer):
    assert "length" not in rules(tiny, tokenizer, bare(tokenizer, "1, 2, 3,"), max_new_tokens=None, **settings)


def test_rules_of_lengths_are_silent_where_other_code_generates(tiny, tokenizer):
    other = {"custom_generate": lambda model, input_ids, **settings: input_ids, "max_new_tokens": None}
    long = ids([50] * 30)
    assert not set(rules(tiny, tokenizer, long, max_length=20, **other)) & {"max-length", "length", "two-lengths"}
    assert "two-lengths" not in rules(tiny, tokenizer, long, max_length=20, **other | {"max_new_tokens": 5})


def test_length_of_a_model_with_an_encoder(tokenizer):
    sizes = {"d_model": 16, "d_kv": 8, "d_ff": 16, "num_layers": 1, "num_heads": 2, "decoder_start_token_id": 0}
    model = T5ForConditionalGeneration(T5Config(vocab_size=len(tokenizer), **sizes)).eval()
    inputs = bare(tokenizer, "The meeting was long, and many things were said.")
    assert "20 new tokens" in watched(model, tokenizer, inputs, max_new_tokens=None, min_length=21)["length"].message
    assert "length" in rules(model, tokenizer, inputs, max_new_tokens=None)
    for settings in ({"max_new_tokens": 4}, {"max_length": 5, "max_new_tokens": None}):
        assert not {"length", "max-length"} & set(watched(model, tokenizer, inputs, **settings))
    assert "two-lengths" in rules(model, tokenizer, inputs, max_length=9)


@pytest.mark.parametrize("endless", [float("inf"), float("nan"), 1e300])
def test_a_budget_without_an_end(endless, tiny, tokenizer, caplog):
    assert "context-window" in rules(tiny, tokenizer, bare(tokenizer, "1, 2,"), max_new_tokens=endless)
    assert not [record for record in caplog.records if record.name == "pitfalls"]


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


def cured(model, tokenizer, inputs, finding, **names) -> set[str]:
    """The rules of the calls that a finding's fix makes, for these inputs of the reader."""
    names = {"model": model, "tokenizer": tokenizer, "inputs": inputs, "texts": ["1, 2"], "messages": ASKED} | names
    with pitfalls.watch(tokenizer=tokenizer) as calls:
        exec(finding.fix, names)
    assert len(calls) == 1
    return calls.report.rules


def test_the_fixes_of_lengths_mind_the_model(tiny, tokenizer):
    """Its own `max_length`, and its window."""
    own, small, long = variant(tiny, max_length=25), tiny_llama(len(tokenizer), window=40), ids([50] * 30)
    found = rules(own, tokenizer, long, max_new_tokens=None)["max-length"]
    assert not {"max-length", "two-lengths"} & cured(own, tokenizer, long, found)
    for settings in ({"max_length": 20, "max_new_tokens": None}, {"max_length": 20, "max_new_tokens": 500}, {}):
        for name, finding in rules(small, tokenizer, long, **{"max_new_tokens": None} | settings).items():
            assert not {name, "context-window", "two-lengths"} & cured(small, tokenizer, long, finding)


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


def test_the_fix_of_a_prompt_that_fills_the_window(small_window, tokenizer):
    long = ids([50] * 20)
    finding = rules(small_window, tokenizer, long)["context-window"]
    assert "context-window" not in cured(small_window, tokenizer, long, finding)
    model = tiny_llama(len(tokenizer), window=120)
    asked = chat_of(tokenizer, TALE)
    finding = rules(model, tokenizer, asked)["context-window"]
    left = cured(model, tokenizer, asked, finding, messages=TALE)
    assert not {"context-window", "truncated-prompt"} & left


# --- thinking-budget --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", THINKING)
def test_thinking_budget(name, speaker):
    own, model = speaker(name)
    budget = 60 if name == "qwen-3" else 100  # it may answer without a thought
    for chat in (ASKED, TALE):
        found = rules(model, own, chat_of(own, chat), max_new_tokens=budget)["thinking-budget"]
        assert f"{budget} new tokens" in found.message and (found.severity == "note") is (name == "qwen-3")
        for enough in (1, 256, 2000):
            assert "thinking-budget" not in rules(model, own, chat_of(own, chat), max_new_tokens=enough)


def test_thinking_budget_behind_the_answer_of_a_tool(speaker):
    own, model = speaker("qwen-3")
    told = [*ASKED, {"role": "user", "content": "<tool_response>\n24\n</tool_response>"}]
    assert "thinking-budget" not in rules(model, own, chat_of(own, told), max_new_tokens=40)


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
    assert "thinking-budget" not in watched(model, own, inputs, [90], max_new_tokens=1), "a loop of one's own"


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


def test_a_call_without_any_prompt(tiny, tokenizer):
    begins = variant(tiny, bos_token_id=BOS)
    raises = rules(tiny, tokenizer, {})["empty-prompt"]
    assert raises.severity == "error" and "no BOS token" in raises.message
    assert "empty-prompt" in explained(tiny, tokenizer, lambda: tiny.generate(max_new_tokens=2))
    assert rules(begins, tokenizer, {})["empty-prompt"].severity == "note"


def test_a_call_without_a_prompt_on_purpose(tiny, tokenizer):
    begins = variant(tiny, bos_token_id=BOS)
    for settings in ({"do_sample": True}, {"bos_token_id": BOS}):
        assert "empty-prompt" not in rules(begins, tokenizer, {}, **settings)
    assert "empty-prompt" not in rules(begins, with_template(tokenizer, None), {})
    assert "empty-prompt" not in rules(tiny, tokenizer, None), "only the settings are asked about"


def test_the_tensor_of_an_empty_text(tiny, tokenizer):
    empty = {"input_ids": torch.tensor([tokenizer("").input_ids])}  # of no numbers, torch makes floats
    assert rules(tiny, tokenizer, empty)["empty-prompt"].severity == "error"
    assert "empty-prompt" in explained(tiny, tokenizer, lambda: tiny.generate(**empty, max_new_tokens=2))
