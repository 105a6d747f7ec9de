"""The rules of pitfalls/inspector/rules/arguments.py: a section for each, in their order."""

import copy
import re

import pytest
import torch
from transformers import (
    BertConfig,
    EncoderDecoderConfig,
    EncoderDecoderModel,
    GenerationConfig,
    LlamaForCausalLM,
    TextStreamer,
)
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
        found = rules(tiny, tokenizer, inputs)["positional-inputs"]
        assert re.search(said, found.message) and "inputs = tokenizer(texts" in found.fix


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
        ({"best_of": 3}, "no equivalent: it draws several answers"),
        ({"frequency_penalty": 0.5}, "no equivalent: it is subtracted for each time"),
        ({"presence_penalty": 0.5}, "no equivalent: it is subtracted once"),
        ({"token_type_ids": torch.tensor([[0]])}, "return_token_type_ids=False"),
        ({"generation_config": {"max_new_tokens": 5}}, "GenerationConfig(**settings)"),
    ],
)
def test_unknown_argument(settings, said, tiny, tokenizer):
    assert said in rules(tiny, tokenizer, ids([50]), **settings)["unknown-argument"].message
    assert "unknown-argument" in explained(tiny, tokenizer, lambda: tiny.generate(**ids([50]), **settings))


@pytest.mark.parametrize(
    ("settings", "fix"),
    [
        ({"max_tokens": 5}, "max_new_tokens=5)"),
        ({"temp": 0.7, "max_new_tokens": 9}, "max_new_tokens=9, temperature=0.7, do_sample=True)"),
        ({"n": 3, "do_sample": True}, "max_new_tokens=600, do_sample=True, num_return_sequences=3)"),
        ({"stop": ["."]}, "stop_strings=['.'], tokenizer=tokenizer)"),
        ({"seed": 7}, "transformers.set_seed(7)"),
        ({"frequency_penalty": 0.5}, "generate(**inputs, max_new_tokens=600)"),
        ({"token_type_ids": torch.tensor([[0]])}, 'inputs.pop("token_type_ids", None)'),
    ],
)
def test_the_fix_of_unknown_argument_keeps_what_was_asked_for(settings, fix, tiny, tokenizer):
    assert fix in rules(tiny, tokenizer, ids([50]), **settings)["unknown-argument"].fix


def test_unknown_argument_inside_a_generation_config(tiny, tokenizer):
    config = GenerationConfig(max_new_token=60, temprature=0.2, do_sample=True, max_tokens=3)
    found = rules(tiny, tokenizer, ids([50]), generation_config=config)["unknown-argument"]
    assert all(f"'{name}'" in found.message for name in ("max_new_token", "temprature", "max_tokens"))
    assert found.severity == "warning", "it does not raise"
    assert "temperature=0.2" in found.fix


def test_what_a_generation_config_may_hold_beside_the_settings(tiny, tokenizer):
    extra = {"chat_format": "chatml", "max_window_size": 6144, "lang_to_id": {"<|en|>": 1}, "prev_sot_token_id": 3}
    extra |= {"no_timestamps_token_id": 4, "is_multilingual": True, "sep_token_id": 5, "user_token_id": 6}
    assert not rules(tiny, tokenizer, ids([50]), generation_config=GenerationConfig(**extra))
    own = variant(tiny, max_new_token=9)
    config = copy.deepcopy(own.generation_config)
    assert not rules(own, tokenizer, ids([50]), generation_config=config), "the checkpoint's own attribute"
    assert not rules(own, tokenizer, ids([50]))


def test_what_the_parts_of_an_encoder_decoder_model_take():
    tiny = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    config = EncoderDecoderConfig.from_encoder_decoder_configs(
        BertConfig(vocab_size=99, **tiny), BertConfig(vocab_size=99, is_decoder=True, add_cross_attention=True, **tiny)
    )
    model = EncoderDecoderModel(config).eval()
    given = {"token_type_ids": torch.tensor([[0, 0]]), "decoder_start_token_id": 1, "max_new_tokens": 2}
    assert "unknown-argument" not in rules(model, None, ids([50, 51]), **given)
    model.generate(**ids([50, 51]), **given)
    assert "unknown-argument" in rules(model, None, ids([50, 51]), max_tokens=3)


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

    note = explained(None, tokenizer, load)["removed-keyword"]
    assert f"BitsAndBytesConfig({keyword}=True" in note
    assert ('bnb_4bit_quant_type="nf4"' in note) is (keyword == "load_in_4bit")


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
    found = rules(tiny, tokenizer, ids(*[[50, 51]] * rows), **settings)["streamer"]
    assert said in found.message and "streamer=TextStreamer(tokenizer)" in found.fix
    assert ("tensor[:1]" in found.fix) is (rows > 1) and "num_" not in found.fix


@pytest.mark.parametrize(
    "settings", [{}, {"num_beams": 1, "num_return_sequences": 1}, {"do_sample": True, "temperature": 0.7}]
)
def test_a_streamer_for_one_row(settings, tiny, tokenizer):
    assert not rules(tiny, tokenizer, ids([50, 51]), streamer=TextStreamer(tokenizer), **settings)
    assert not rules(tiny, tokenizer, ids([50], [51]), streamer=None)
