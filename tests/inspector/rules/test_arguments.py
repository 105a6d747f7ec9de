"""The rules of pitfalls/inspector/rules/arguments.py: a section for each, in their order."""

import re

import pytest
import torch
from transformers import GenerationConfig, LlamaForCausalLM, TextStreamer
from transformers import pipeline as make_pipeline

import pitfalls
from pitfalls.inspector.call import Call
from pitfalls.inspector.checking import RULES
from tests.helpers import tiny_llama
from tests.inspector.rules.calls import bare, explained, ids, rules, variant

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


# --- positional-inputs ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "said"),
    [("1, 2, 3", "The input is text"), (["1, 2, 3"], "The input is text"), ([[50, 51]], "is a list"),
     (torch.tensor([50, 51]), r"shape \(2,\)"), (torch.tensor(50), r"shape \(\)"),
     (torch.ones(1, 1, 3, dtype=torch.long), r"shape \(1, 1, 3\)"), (torch.tensor([[5.0]]), "type float32"),
     (torch.tensor([[True]]), "type bool")],
)  # fmt: skip
def test_positional_inputs(given, said, tiny, tokenizer):
    for inputs in (given, {"input_ids": given}):
        assert re.search(said, rules(tiny, tokenizer, inputs)["positional-inputs"].message)


def test_positional_inputs_as_a_batch_encoding(tiny, tokenizer):
    inputs = bare(tokenizer, "1, 2, 3")
    assert "BatchEncoding" in explained(tiny, tokenizer, lambda: tiny.generate(inputs))["positional-inputs"]
    assert "BatchEncoding" in explained(tiny, tokenizer, lambda: tiny(inputs))["positional-inputs"]
    assert "A dict stands" in explained(tiny, tokenizer, lambda: tiny.generate(dict(inputs)))["positional-inputs"]


def test_ids_of_two_dimensions_are_right_by_position_and_by_name(tiny, tokenizer):
    inputs = bare(tokenizer, "1, 2, 3")
    for given in (inputs, dict(inputs), inputs["input_ids"], {"inputs": inputs["input_ids"]}):
        assert not rules(tiny, tokenizer, given)
    with pitfalls.watch(tiny, tokenizer) as calls:
        tiny.generate(inputs["input_ids"], max_new_tokens=2)
    assert "positional-inputs" not in calls[0].report.rules


def test_another_attribute_error_is_not_about_the_inputs(tiny, tokenizer):
    assert "positional-inputs" not in explained(tiny, tokenizer, lambda: tiny.no_such_thing)


# --- unknown-argument -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"max_tokens": 5}, "no 'max_tokens'; here it is 'max_new_tokens'"),
        ({"max_new_token": 5}, "no 'max_new_token'; here it is 'max_new_tokens'"),
        ({"stop": ["."]}, "'stop_strings'"),
        ({"n": 3}, "'num_return_sequences'"),
        ({"quux": 1}, "generate takes no 'quux'."),
        ({"token_type_ids": torch.tensor([[0]])}, "return_token_type_ids=False"),
        ({"generation_config": {"max_new_tokens": 5}}, "GenerationConfig(**settings)"),
    ],
)
def test_unknown_argument(settings, said, tiny, tokenizer):
    assert said in rules(tiny, tokenizer, ids([50]), **settings)["unknown-argument"].message
    assert "unknown-argument" in explained(tiny, tokenizer, lambda: tiny.generate(**ids([50]), **settings))


@pytest.mark.parametrize(
    "settings",
    [
        {"token_type_ids": None},
        {"position_ids": torch.tensor([[0]]), "past_key_values": None, "logits_to_keep": 1},
        {"output_scores": True, "return_dict_in_generate": True, "output_attentions": True},
        {"prompt_lookup_num_tokens": 3, "renormalize_logits": True, "min_new_tokens": 1, "guidance_scale": 1.5},
        {"cache_implementation": "static", "synced_gpus": False, "use_model_defaults": False},
        {"prefix_allowed_tokens_fn": lambda batch, ids: [50], "stopping_criteria": [], "logits_processor": []},
    ],
)
def test_arguments_that_generate_knows(settings, tiny, tokenizer):
    assert "unknown-argument" not in rules(tiny, tokenizer, ids([50]), **settings)
    assert "unknown-argument" not in rules(None, tokenizer, ids([50]), quux=1), "without a model nobody knows"


# --- removed-keyword --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("keyword", ["load_in_4bit", "load_in_8bit"])
def test_removed_keyword(keyword, tokenizer):
    def load():
        LlamaForCausalLM(tiny_llama(9).config, **{keyword: True})

    assert f"BitsAndBytesConfig({keyword}=True)" in explained(None, tokenizer, load)["removed-keyword"]


def test_removed_keyword_is_not_any_keyword(tokenizer):
    assert not explained(None, tokenizer, lambda: LlamaForCausalLM(tiny_llama(9).config, quux=True))
    assert RULES["removed-keyword"](Call(error=KeyError("load_in_4bit"))) is None


# --- stop-strings -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "settings", [{"stop_strings": ["."]}, {"generation_config": GenerationConfig(stop_strings="#")}]
)
def test_stop_strings_without_the_tokenizer(settings, tiny, tokenizer):
    found = rules(tiny, tokenizer, ids([50]), **settings)["stop-strings"]
    assert found.severity == "error" and ("'.'" in found.message or "'#'" in found.message)
    assert "stop-strings" in explained(tiny, tokenizer, lambda: tiny.generate(**ids([50]), **settings))
    assert "stop-strings" in rules(variant(tiny, stop_strings=["."]), tokenizer, ids([50]))


def test_stop_strings_with_the_tokenizer(tiny, tokenizer):
    assert not rules(tiny, tokenizer, ids([50]), stop_strings=["."], tokenizer=tokenizer)
    assert not rules(tiny, tokenizer, ids([50]), tokenizer=tokenizer)
    pipe = make_pipeline("text-generation", model=variant(tiny), tokenizer=tokenizer)
    with pitfalls.watch(pipe.model, tokenizer) as calls:
        pipe("1, 2, 3,", max_new_tokens=2, do_sample=False, stop_sequence=".")
    assert "stop-strings" not in calls[0].report.rules, "under this name, a pipeline hands its tokenizer over"
    note = explained(pipe.model, tokenizer, lambda: pipe("1, 2, 3,", max_new_tokens=2, stop_strings=["."]))
    assert "stop-strings" in note


# --- streamer ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rows", "settings", "said"),
    [(1, {"num_beams": 2}, "num_beams=2"), (3, {}, "this call has 3"),
     (1, {"num_return_sequences": 2, "do_sample": True}, "this call has 2")],
)  # fmt: skip
def test_streamer(rows, settings, said, tiny, tokenizer):
    settings = settings | {"streamer": TextStreamer(tokenizer)}
    assert said in rules(tiny, tokenizer, ids(*[[50, 51]] * rows), **settings)["streamer"].message


@pytest.mark.parametrize(
    "settings", [{}, {"num_beams": 1, "num_return_sequences": 1}, {"do_sample": True, "temperature": 0.7}]
)
def test_a_streamer_for_one_row(settings, tiny, tokenizer):
    assert not rules(tiny, tokenizer, ids([50, 51]), streamer=TextStreamer(tokenizer), **settings)
    assert not rules(tiny, tokenizer, ids([50], [51]), streamer=None)
