"""The rules of pitfalls/inspector/rules/settings.py: a section for each, in their order."""

import re

import pytest
import torch
from transformers import GenerationConfig

from tests.helpers import END, tiny_llama
from tests.inspector.rules.calls import explained, ids, rules, variant, watched

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


# --- special-id -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"pad_token_id": [2, 0]}, "is a list"), ({"pad_token_id": [2]}, "is a list"),
        ({"pad_token_id": "</s>"}, "is a text"), ({"eos_token_id": "<|im_end|>"}, "is a text"),
        ({"eos_token_id": ["<|im_end|>"]}, "is a text"), ({"eos_token_id": [2, None]}, "a None in it"),
        ({"bos_token_id": "<s>"}, "is a text"),
    ],
)  # fmt: skip
def test_special_id(settings, said, tiny, tokenizer):
    found = rules(tiny, tokenizer, ids([50]), **settings)["special-id"]
    assert said in found.message and found.severity == "error"
    assert "special-id" in explained(tiny, tokenizer, lambda: tiny.generate(**ids([50]), **settings))


def test_special_id_of_the_model(tiny, tokenizer):
    own = variant(tiny)
    own.generation_config.pad_token_id = [2, 0]
    for settings in ({}, {"pad_token_id": 2}):  # transformers 5.23 looks at the model's even then
        found = explained(own, tokenizer, lambda given=settings: own.generate(**ids([50]), max_new_tokens=1, **given))
        assert "model.generation_config.pad_token_id = tokenizer.pad_token_id" in found["special-id"]


def test_special_id_of_a_token_text_is_looked_up(tiny, tokenizer):
    found = rules(tiny, tokenizer, ids([50]), eos_token_id="<|im_end|>")["special-id"]
    assert "eos_token_id=tokenizer.convert_tokens_to_ids('<|im_end|>')" in found.fix


def test_special_id_below_zero_as_pad(tiny, tokenizer):
    batch = ids([50], [51])
    assert "special-id" in rules(tiny, tokenizer, batch, pad_token_id=-1)
    note = explained(tiny, tokenizer, lambda: watched(tiny, tokenizer, batch, [END], [80, 81], pad_token_id=-1))
    assert "special-id" in note
    assert "special-id" not in watched(tiny, tokenizer, batch, [80], [81], pad_token_id=-1), "no row ended early"
    assert "special-id" not in rules(tiny, tokenizer, ids([50]), pad_token_id=-1)


@pytest.mark.parametrize(
    "settings",
    [
        {"eos_token_id": None}, {"eos_token_id": -1}, {"eos_token_id": -1, "pad_token_id": 2}, {"eos_token_id": [2, 0]},
        {"eos_token_id": torch.tensor([2, 0])}, {"pad_token_id": torch.tensor(2)}, {"pad_token_id": None},
        {"bos_token_id": None}, {"pad_token_id": 0, "eos_token_id": []},
    ],
)  # fmt: skip
def test_special_ids_that_work(settings, tiny, tokenizer):
    assert "special-id" not in rules(tiny, tokenizer, ids([50], [51]), **settings)
    tiny.generate(**ids([50], [51]), max_new_tokens=1, **settings)


# --- invalid-setting --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "named", "fix"),
    [
        ({"max_new_tokens": "12"}, "max_new_tokens='12' is a text", "max_new_tokens=12"),
        ({"max_new_tokens": 0}, "max_new_tokens=0 is below 1", "max_new_tokens=50"),
        ({"do_sample": True, "top_p": -0.5}, "top_p=-0.5 .*from 0 to 1", ""),
        ({"do_sample": True, "min_p": 1.5}, "min_p=1.5 .*from 0 to 1", ""),
        ({"do_sample": True, "top_k": -1}, "top_k=-1 is below 0", "top_k=0"),
        ({"do_sample": True, "top_k": 10.0}, "top_k=10.0 is no whole number", "top_k=10"),
        ({"do_sample": True, "temperature": "0.7"}, "temperature='0.7' is a text", "temperature=0.7"),
        ({"do_sample": True, "temperature": 2}, "temperature=2 is a whole number", "temperature=2.0"),
        ({"repetition_penalty": 2}, "repetition_penalty=2 is a whole number", "repetition_penalty=2.0"),
        (
            {"generation_config": GenerationConfig(repetition_penalty=2)},
            "=2 is a whole number",
            "repetition_penalty=2.0",
        ),
        ({"repetition_penalty": 0.0}, "must be above 0", ""),
        ({"no_repeat_ngram_size": 3.0}, "=3.0 is no whole number", "no_repeat_ngram_size=3"),
        ({"num_beams": 2.0}, "=2.0 is no whole number", "num_beams=2"),
        ({"num_beams": 0}, "num_beams=0 is below 1", ""),
        ({"min_length": 12.0}, "=12.0 is no whole number", "min_length=12"),
        ({"top_k": "10"}, "top_k='10' is a text", "top_k=10"),
    ],
)
def test_invalid_setting_that_raises(settings, named, fix, tiny, tokenizer):
    found = rules(tiny, tokenizer, ids([50]), **settings)["invalid-setting"]
    assert re.search(named, found.message) and fix in found.fix and found.severity == "error"
    call = {"max_new_tokens": 3} | settings
    assert "invalid-setting" in explained(tiny, tokenizer, lambda: tiny.generate(**ids([50]), **call))


@pytest.mark.parametrize(
    ("settings", "named", "fix"),
    [
        ({"do_sample": "False"}, "do_sample='False'", "do_sample=False"),
        ({"do_sample": True, "top_p": 1.5}, "top_p=1.5 .*above 1", ""),
        ({"do_sample": True, "top_p": 90}, "top_p=90 ", "top_p=0.9"),
    ],
)
def test_invalid_setting_that_means_something_else(settings, named, fix, tiny, tokenizer):
    for found in (rules(tiny, tokenizer, ids([50]), **settings), watched(tiny, tokenizer, ids([50]), **settings)):
        found = found["invalid-setting"]
        assert re.search(named, found.message) and fix in found.fix and found.severity == "warning"


@pytest.mark.parametrize(
    "settings",
    [
        {"do_sample": False},
        {"do_sample": True, "top_p": 1.0, "min_p": 0.0, "top_k": 0, "temperature": 1.7},
        {"do_sample": True, "typical_p": 1, "top_k": None, "temperature": 1, "top_p": 1},
        {"max_new_tokens": 12.0}, {"max_new_tokens": 12.5}, {"repetition_penalty": 1}, {"max_new_tokens": True},
        {"num_beams": 4, "length_penalty": 2, "early_stopping": 1}, {"no_repeat_ngram_size": 0}, {"min_length": 0.0},
    ],
)  # fmt: skip
def test_settings_that_are_valid(settings, tiny, tokenizer):
    assert "invalid-setting" not in rules(tiny, tokenizer, ids([50]), **settings)
    tiny.generate(**ids([50]), **{"max_new_tokens": 3} | settings)


# --- one-candidate ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("settings", [{"top_k": 1}, {"top_p": 0.0}, {"top_p": 0}, {"min_p": 1.0}])
def test_one_candidate(settings, tiny, tokenizer):
    found = rules(tiny, tokenizer, ids([50]), do_sample=True, **settings)["one-candidate"]
    assert found.severity == "note" and next(iter(settings)) in found.message
    several = rules(tiny, tokenizer, ids([50]), do_sample=True, num_return_sequences=3, **settings)["one-candidate"]
    assert several.severity == "warning" and "3 sequences" in several.message
    greedy, drawn = (
        tiny.generate(**ids([50]), max_new_tokens=5, **how) for how in ({}, {"do_sample": True} | settings)
    )
    assert greedy.tolist() == drawn.tolist()


@pytest.mark.parametrize(
    "settings",
    [{"top_k": 2}, {"top_p": 0.1}, {"min_p": 0.9}, {"do_sample": False, "top_k": 1}, {"num_beams": 2, "top_k": 1}],
)
def test_more_than_one_candidate(settings, tiny, tokenizer):
    assert "one-candidate" not in rules(tiny, tokenizer, ids([50]), **{"do_sample": True} | settings)
    own = variant(tiny, top_k=1, do_sample=True)
    assert "one-candidate" not in rules(own, tokenizer, ids([50])), "model-defaults says it"
    assert "one-candidate" in rules(own, tokenizer, ids([50]), num_return_sequences=4)


# --- ignored-beam-settings --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "severity"),
    [({"length_penalty": 2.0}, "warning"), ({"num_beam_groups": 2}, "warning"), ({"early_stopping": True}, "note"),
     ({"length_penalty": 0.5, "early_stopping": True, "num_beams": 1}, "warning"),
     ({"diversity_penalty": 1.0}, "warning")],
)  # fmt: skip
def test_ignored_beam_settings(settings, severity, tiny, tokenizer):
    found = rules(tiny, tokenizer, ids([50]), **settings)["ignored-beam-settings"]
    assert found.severity == severity and next(iter(settings)) in found.message


@pytest.mark.parametrize(
    "settings",
    [{"length_penalty": 2.0, "num_beams": 4}, {"length_penalty": 1.0, "early_stopping": False}, {"num_beams": 1},
     {"early_stopping": True, "num_beams": 2}, {"num_beam_groups": 1, "diversity_penalty": 0.0}],
)  # fmt: skip
def test_beam_settings_with_beams_or_without_effect(settings, tiny, tokenizer):
    assert not rules(tiny, tokenizer, ids([50]), **settings)
    assert not rules(variant(tiny, length_penalty=2.0), tokenizer, ids([50])), "the model's own"


# --- removed-strategy -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"penalty_alpha": 0.6, "top_k": 4}, "penalty_alpha"), ({"penalty_alpha": 0.6}, "penalty_alpha"),
        ({"num_beams": 4, "num_beam_groups": 2, "diversity_penalty": 1.0}, "num_beam_groups"),
        ({"num_beams": 4, "force_words_ids": [[50]]}, "force_words_ids"), ({"dola_layers": "low"}, "dola_layers"),
    ],
)  # fmt: skip
def test_removed_strategy(settings, named, tiny, tokenizer):
    found = rules(tiny, tokenizer, ids([50]), **settings)["removed-strategy"]
    assert named in found.message and named not in found.fix
    assert "removed-strategy" in explained(tiny, tokenizer, lambda: tiny.generate(**ids([50]), **settings))


@pytest.mark.parametrize(
    "settings",
    [{"penalty_alpha": 0.0, "top_k": 4}, {"penalty_alpha": 0.6, "top_k": 1}, {"penalty_alpha": 0.6, "do_sample": True},
     {"num_beam_groups": 1, "num_beams": 2}, {"dola_layers": "low", "num_beams": 2}],
)  # fmt: skip
def test_settings_of_removed_strategies_that_nothing_reads(settings, tiny, tokenizer):
    assert "removed-strategy" not in rules(tiny, tokenizer, ids([50]), **settings)
    tiny.generate(**ids([50]), max_new_tokens=2, **settings)


def test_a_removed_strategy_whose_code_is_asked_for(tiny, tokenizer):
    asked = {"penalty_alpha": 0.6, "top_k": 4, "trust_remote_code": True}
    assert "removed-strategy" not in rules(tiny, tokenizer, ids([50]), **asked)
    own = {"penalty_alpha": 0.6, "custom_generate": lambda model, **settings: None}
    assert "removed-strategy" not in rules(tiny, tokenizer, ids([50]), **own)


# --- assistant-tokenizer ----------------------------------------------------------------------------------------


def test_assistant_tokenizer(tiny, tokenizer):
    small, given = tiny_llama(1000), {"tokenizer": tokenizer, "assistant_tokenizer": tokenizer}
    for model, settings, said in (
        (small, {}, "without tokenizer= and assistant_tokenizer="),
        (small, {"tokenizer": tokenizer}, "without assistant_tokenizer="),
        (tiny, given, "because of assistant_tokenizer="),
    ):
        asked = {"assistant_model": model} | settings
        assert said in rules(tiny, tokenizer, ids([50]), **asked)["assistant-tokenizer"].message
        assert "assistant-tokenizer" in explained(
            tiny, tokenizer, lambda call=asked: tiny.generate(**ids([50]), **call)
        )
    for settings in ({"assistant_model": tiny}, {"assistant_model": small} | given, {}):
        assert "assistant-tokenizer" not in rules(tiny, tokenizer, ids([50]), **settings)
