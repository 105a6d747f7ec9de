"""A watched generate call is the plain call, and all of them are seen, whoever makes them and however they end."""

import copy
import dataclasses
import functools
import gc
import json
import logging
import random
import sys
import threading
import warnings
import weakref

import numpy
import pytest
import torch
from transformers import (
    BartConfig,
    BartForConditionalGeneration,
    GemmaConfig,
    GemmaForCausalLM,
    GenerationConfig,
    GPT2Config,
    GPT2LMHeadModel,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    LogitsProcessor,
    LogitsProcessorList,
    MambaConfig,
    MambaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    OPTConfig,
    OPTForCausalLM,
    Pipeline,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
    RepetitionPenaltyLogitsProcessor,
    StoppingCriteria,
    StoppingCriteriaList,
    T5Config,
    T5ForConditionalGeneration,
    TextStreamer,
    TopKLogitsWarper,
    __version__,
    pipeline,
)
from transformers.generation import GenerationMixin
from transformers.utils import logging as transformers_logging

import pitfalls
from pitfalls import Finding, PitfallError, Report, check, record, watch
from pitfalls.inspector import watcher, watching
from tests.helpers import WORD_TEMPLATE, Collector, Script, word_tokenizer

VOCABULARY, PAD, END = 300, 1, 2
WORDS = torch.tensor([[50, 60, 70]])
LOOPING = torch.tensor([[50, 60, 70, 80, 50, 60, 70, 80, 50, 60]])  # for prompt lookup
BATCH = {
    "input_ids": torch.tensor([[PAD, PAD, 50], [40, 50, 60], [PAD, 70, 80]]),
    "attention_mask": torch.tensor([[0, 0, 1], [1, 1, 1], [0, 1, 1]]),
}
RIGHT_PADDED = {
    "input_ids": torch.tensor([[50, PAD, PAD], [40, 50, 60]]),
    "attention_mask": torch.tensor([[1, 0, 0], [1, 1, 1]]),
}
CHAT = [{"role": "user", "content": "w50 w60"}]
PATCHED = [
    (GenerationMixin, "generate"),
    (Pipeline, "forward"),
    (PreTrainedTokenizerBase, "__call__"),
    (PreTrainedTokenizerBase, "encode"),
    (PreTrainedTokenizerBase, "apply_chat_template"),
    (PreTrainedTokenizerBase, "decode"),
    (PreTrainedTokenizerBase, "batch_decode"),
]

pytestmark = pytest.mark.filterwarnings("ignore:Using the model-agnostic default")


@pytest.fixture(autouse=True)
def nothing_stays_behind(caplog):
    """After each test all methods are the originals, and neither a rule nor the recorder failed in silence."""
    originals = methods()
    caplog.set_level(logging.DEBUG, logger="pitfalls")
    yield
    assert methods() == originals
    assert not watcher.WATCHERS
    assert [entry.getMessage() for entry in caplog.get_records("call") if entry.name == "pitfalls"] == []


def methods() -> list:
    """All that makes a function what it is, of each method that is looked into."""
    functions = [vars(owner)[name] for owner, name in PATCHED]
    return [(f, f.__code__, f.__defaults__, f.__kwdefaults__, dict(vars(f))) for f in functions]


def tiny_model(config=LlamaConfig, model=LlamaForCausalLM, seed: int = 0, **settings):
    """A model that says nothing sensible, fast; its probabilities are far from equal."""
    torch.manual_seed(seed)
    sizes = {
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "intermediate_size": 16,
        "max_position_embeddings": 128,
    }
    ids = {"vocab_size": VOCABULARY, "bos_token_id": None, "eos_token_id": END, "pad_token_id": PAD}
    made = model(config(**{**sizes, **ids, **settings})).eval()
    for weight in made.parameters():
        weight.data *= 5
    return made


@pytest.fixture(scope="module")
def tiny():
    return tiny_model()


def make_tokenizer(**settings) -> PreTrainedTokenizerFast:
    known = {"pad_token": "<pad>", "eos_token": "<end>", "chat_template": WORD_TEMPLATE, "padding_side": "left"}
    return word_tokenizer(VOCABULARY, **known | settings)


@pytest.fixture(scope="module")
def words():
    return make_tokenizer()


class Quiet(StoppingCriteria):
    def __call__(self, input_ids, scores, **kwargs):
        return torch.full((len(input_ids),), input_ids.shape[1] >= 5)


class Raises(LogitsProcessor):
    """Raises one and the same error at a step."""

    def __init__(self, error: BaseException, length: int = 5):
        self.error, self.length = error, length

    def __call__(self, input_ids, scores):
        if input_ids.shape[1] >= self.length:
            raise self.error
        return scores


class Wrapper(torch.nn.Module):
    """Hands on what it does not have itself, as PEFT's and others' wrappers do."""

    def __init__(self, model):
        super().__init__()
        self.inner = model

    def __getattr__(self, name):
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("inner"), name)

    def forward(self, *args, **kwargs):
        return self.inner(*args, **kwargs)

    def generate(self, *args, **kwargs):
        return self.inner.generate(*args, **kwargs)


def seeded(seed: int = 7) -> None:
    torch.manual_seed(seed)
    numpy.random.seed(seed)
    random.seed(seed)


def random_state() -> tuple:
    return torch.get_rng_state().tolist(), numpy.random.get_state()[1].tolist(), random.getstate()


def as_plain(thing):
    """Types and numbers of an output, for a comparison; a cache by its type."""
    if isinstance(thing, torch.Tensor):
        return thing.dtype, thing.tolist()
    if isinstance(thing, dict):
        return type(thing), {name: as_plain(value) for name, value in thing.items()}
    if isinstance(thing, (list, tuple)):
        return type(thing), [as_plain(value) for value in thing]
    return type(thing)


def outcome(function):
    """What a call returns or raises, in a form that can be compared."""
    try:
        return as_plain(function())
    except BaseException as error:
        return type(error), str(error), error.args


def notes(error: BaseException) -> str:
    return "".join(getattr(error, "__notes__", []))


# --- the output is that of the plain call ------------------------------------------------------------------------

STYLES = {
    "greedy": (WORDS, {}),
    "sampling": (WORDS, {"do_sample": True, "top_k": 0}),
    "several-samples": (BATCH, {"do_sample": True, "num_return_sequences": 2, "top_p": 0.9}),
    "left-padded": (BATCH, {}),
    "beams": (BATCH, {"num_beams": 3, "num_return_sequences": 2}),
    "sampled-beams": (WORDS, {"num_beams": 3, "do_sample": True}),
    "prompt-lookup": (LOOPING, {"prompt_lookup_num_tokens": 3}),
    "static-cache": (BATCH, {"cache_implementation": "static"}),
    "no-cache": (BATCH, {"use_cache": False}),
    "penalties": (LOOPING, {"repetition_penalty": 1.7, "no_repeat_ngram_size": 2}),
    "dict": (WORDS, {"return_dict_in_generate": True, "output_scores": True, "output_logits": True}),
    "dict-hidden": (WORDS, {"return_dict_in_generate": True, "output_hidden_states": True}),
    "dict-beams": (WORDS, {"return_dict_in_generate": True, "output_scores": True, "num_beams": 2}),
    "processor": (WORDS, {"logits_processor": [Script(3, [90, 91, END])]}),
    "processors-as-a-list-of-transformers": (WORDS, {"logits_processor": LogitsProcessorList([Script(3, [90])])}),
    "processor-of-a-type-of-generate": (
        LOOPING,
        {"logits_processor": [RepetitionPenaltyLogitsProcessor(5.0)], "repetition_penalty": 1.1},
    ),
    "warper-of-a-type-of-generate": (
        WORDS,
        {"do_sample": True, "top_k": 40, "logits_processor": [TopKLogitsWarper(1)]},
    ),
    "renormalized": (WORDS, {"renormalize_logits": True, "return_dict_in_generate": True, "output_scores": True}),
    "criterion": (WORDS, {"stopping_criteria": [Quiet()]}),
    "criteria-as-a-list-of-transformers": (WORDS, {"stopping_criteria": StoppingCriteriaList([Quiet()])}),
    "end-ids": (BATCH, {"eos_token_id": list(range(100))}),
    "configuration": (BATCH, {"generation_config": GenerationConfig(do_sample=True, top_k=3, pad_token_id=PAD)}),
    "default-length": (WORDS, {"max_new_tokens": None}),
    "guidance": (WORDS, {"guidance_scale": 1.5}),
}


@pytest.mark.parametrize("style", STYLES)
def test_output_and_random_state_are_those_of_generate(style, tiny, words):
    inputs, settings = STYLES[style]
    inputs = inputs if isinstance(inputs, dict) else {"input_ids": inputs}
    settings = {"max_new_tokens": 8} | settings
    seeded()
    expected, state = tiny.generate(**inputs, **settings), random_state()
    seeded()
    with watch(tiny, words) as calls:
        output = tiny.generate(**inputs, **settings)
    assert as_plain(output) == as_plain(expected)
    assert random_state() == state
    ids = output if isinstance(output, torch.Tensor) else output.sequences
    assert len(calls) == 1 and calls[0].error is None
    assert torch.equal(calls[0].output_ids, ids) and len(calls[0].rows) == len(ids)


def test_assistant_model_is_part_of_the_call(tiny, words):
    settings = {"assistant_model": tiny_model(seed=1), "max_new_tokens": 8}
    expected = tiny.generate(WORDS, **settings)
    with watch(None, words) as calls:
        assert torch.equal(tiny.generate(WORDS, **settings), expected)
    assert len(calls) == 1
    assert calls[0].new_ids == expected[0, 3:].tolist() and calls[0].settings.max_new_tokens == 8


def test_stop_strings(tiny, tokenizer):
    stop = tokenizer(";").input_ids[0]
    settings = {"stop_strings": [";"], "tokenizer": tokenizer, "logits_processor": [Script(3, [90, stop, 92])]}
    with watch(tiny) as calls:
        output = tiny.generate(WORDS, max_new_tokens=6, **settings)
    assert torch.equal(output, tiny.generate(WORDS, max_new_tokens=6, **settings))
    assert (calls[0].new_ids, calls[0].stopped_by) == ([90, stop], "stop-string")
    assert calls[0].new_text == tokenizer.decode([90, stop]), "the tokenizer of the call is used"
    assert "stop-strings" not in calls[0].report.rules


def test_a_criterion_that_makes_generate_pad_still_does(tiny, words):
    """`generate` pads rows that have ended where a criterion has `eos_token_id`, and writes on where none has."""

    class Ends(StoppingCriteria):
        eos_token_id = torch.tensor([90])

        def __call__(self, input_ids, scores, **kwargs):
            return input_ids[:, -1] == 90

    settings = {"max_new_tokens": 6, "eos_token_id": None, "logits_processor": [Script(3, [90, 91], [91], [91])]}
    expected = tiny.generate(**BATCH, **settings, stopping_criteria=[Ends()])
    with watch(tiny, words) as calls:
        assert torch.equal(tiny.generate(**BATCH, **settings, stopping_criteria=[Ends()]), expected)
    assert [(len(row.new_ids), row.stopped_by) for row in calls[0].rows][0] == (1, "Ends")
    assert torch.equal(record(tiny, words, BATCH, **settings, stopping_criteria=[Ends()]).output_ids, expected)


def test_what_stands_in_the_way_of_watching_does_not_stand_in_the_way_of_the_call(tiny, words, monkeypatch, caplog):
    def broken(*args):
        raise OSError("no reading")

    monkeypatch.setattr(watching, "_call", broken)
    with watch(tiny, words) as calls:
        assert tiny.generate(WORDS, max_new_tokens=2).shape == (1, 5)
    assert list(calls) == []
    caplog.clear()


def test_ids_without_numbers_are_a_call_all_the_same(tiny, words):
    class Traced(torch.Tensor):
        def tolist(self):
            raise RuntimeError("no numbers here")

    ids = WORDS.clone().as_subclass(Traced)
    call = pitfalls.Call(tiny, words, {"input_ids": ids})
    call.read_inputs()
    assert call.input_ids is None and call.token_rows == []


def test_stopped_by_the_callers_criterion(tiny, words):
    with watch(tiny, words) as calls:
        tiny.generate(WORDS, max_new_tokens=9, stopping_criteria=[Quiet()], logits_processor=[Script(3, [90])])
    assert (calls[0].new_ids, calls[0].stopped_by) == ([90, 90], "Quiet")


def test_streamer_gets_every_token(tiny, words):
    streamer = Collector()
    with watch(tiny, words) as calls:
        output = tiny.generate(WORDS, max_new_tokens=4, streamer=streamer)
    assert streamer.ids == [*output[0].tolist(), "end"]
    assert calls[0].output_ids.tolist() == output.tolist()


def test_a_streamer_of_the_callers_own_may_take_several_rows(tiny, words):
    with watch(tiny, words) as calls:
        tiny.generate(**BATCH, max_new_tokens=2, streamer=Collector())
        with pytest.raises(ValueError, match="batch size 1"):
            tiny.generate(**BATCH, max_new_tokens=2, streamer=TextStreamer(words))
    assert ["streamer" in call.report.rules for call in calls] == [False, True]


def test_the_streamers_tokenizer_is_used_and_its_text_is_the_same(tiny, words, capsys):
    streamer = TextStreamer(words, skip_prompt=True)
    tiny.generate(WORDS, max_new_tokens=4, streamer=streamer)
    expected = capsys.readouterr()
    with watch(tiny) as calls:
        tiny.generate(WORDS, max_new_tokens=4, streamer=streamer)
    assert capsys.readouterr() == expected
    assert calls[0].new_text and calls[0].new_text in expected.out


@pytest.mark.parametrize(
    "arguments",
    [
        (WORDS,),
        (WORDS, GenerationConfig(max_new_tokens=3)),
        (WORDS, GenerationConfig(max_new_tokens=3), LogitsProcessorList([Script(3, [90])])),
        (WORDS, GenerationConfig(max_new_tokens=3), [Script(3, [90])]),
        (WORDS, GenerationConfig(max_new_tokens=9), None, StoppingCriteriaList([Quiet()])),
        (None, GenerationConfig(max_new_tokens=3, bos_token_id=9)),
    ],
)
def test_positional_arguments(arguments, tiny, words):
    expected = tiny.generate(*arguments)
    before = [list(a) if isinstance(a, list) else a for a in arguments]
    with watch(tiny, words) as calls:
        assert torch.equal(tiny.generate(*arguments), expected)
    assert calls[0].output_ids.tolist() == expected.tolist()
    assert all(list(a) == b for a, b in zip(arguments, before, strict=True) if isinstance(a, list))


@pytest.mark.parametrize("with_ids", [True, False])
def test_embeddings_as_inputs(with_ids, tiny, words):
    inputs = {"inputs_embeds": tiny.get_input_embeddings()(BATCH["input_ids"]).detach()}
    inputs |= {"input_ids": BATCH["input_ids"]} if with_ids else {}
    inputs |= {"attention_mask": BATCH["attention_mask"]}
    expected = tiny.generate(**inputs, max_new_tokens=3)
    with watch(tiny, words) as calls:
        assert torch.equal(tiny.generate(**inputs, max_new_tokens=3), expected)
    assert [row.new_ids for row in calls[0].rows] == expected[:, -3:].tolist()


def test_nothing_but_a_bos_token(tiny, words):
    expected = tiny.generate(bos_token_id=9, max_new_tokens=3)
    with watch(tiny, words) as calls:
        assert torch.equal(tiny.generate(bos_token_id=9, max_new_tokens=3), expected)
    assert len(calls) == 1 and torch.equal(calls[0].output_ids, expected)
    assert calls[0].prompt_ids == [9] and calls[0].new_ids == expected[0, 1:].tolist() and len(calls[0].steps) == 3


def test_tokens_are_checked_but_a_function_of_the_caller_decodes_as_it_likes(tiny, words):
    def first_token_only(model, input_ids, **kwargs):
        return torch.cat([input_ids, torch.full_like(input_ids[:, :1], 90)], dim=1)

    settings = {"custom_generate": first_token_only, "max_new_tokens": 5}
    expected = tiny.generate(WORDS, **settings)
    with watch(tiny, words) as calls:
        assert torch.equal(tiny.generate(WORDS, **settings), expected)
    assert calls[0].new_ids == [90]


# --- every architecture ------------------------------------------------------------------------------------------

ARCHITECTURES = {
    "llama": (LlamaConfig, LlamaForCausalLM),
    "gpt2": (GPT2Config, GPT2LMHeadModel),
    "mistral": (MistralConfig, MistralForCausalLM),
    "qwen2": (Qwen2Config, Qwen2ForCausalLM),
    "gemma": (GemmaConfig, GemmaForCausalLM),
    "gpt-neox": (GPTNeoXConfig, GPTNeoXForCausalLM),
    "opt": (OPTConfig, OPTForCausalLM),
    "mamba": (MambaConfig, MambaForCausalLM),
}
ENCODER_DECODERS = {
    "t5": lambda: T5ForConditionalGeneration(
        T5Config(
            vocab_size=VOCABULARY, d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2, decoder_start_token_id=0
        )
    ).eval(),
    "bart": lambda: BartForConditionalGeneration(
        BartConfig(
            vocab_size=VOCABULARY,
            d_model=16,
            encoder_layers=1,
            decoder_layers=1,
            encoder_attention_heads=2,
            decoder_attention_heads=2,
            encoder_ffn_dim=16,
            decoder_ffn_dim=16,
            max_position_embeddings=64,
        )
    ).eval(),
}


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_decoder_only_architectures(name, words):
    extra = {"word_embed_proj_dim": 16, "ffn_dim": 16} if name == "opt" else {}
    model = tiny_model(*ARCHITECTURES[name], **extra)
    settings = {"max_new_tokens": 3, "do_sample": True, "pad_token_id": PAD}
    seeded()
    expected = model.generate(**BATCH, **settings)
    seeded()
    with watch(model, words) as calls:
        output = model.generate(**BATCH, **settings)
    assert torch.equal(output, expected)
    assert [row.prompt_ids for row in calls[0].rows] == [[50], [40, 50, 60], [70, 80]]
    assert not [finding for finding in calls[0].report if finding.severity == "error"]
    assert "padding-side" in check(model, words, RIGHT_PADDED, max_new_tokens=30).rules


@pytest.mark.parametrize("name", ENCODER_DECODERS)
def test_encoder_decoder_models_hear_of_what_holds_for_every_model(name, words):
    """Not of pads on the right, which are correct there."""
    torch.manual_seed(0)
    model = ENCODER_DECODERS[name]()
    inputs = {**RIGHT_PADDED, "temperature": 0.3}
    assert check(model, words, inputs).rules == {"length", "ignored-sampling-flags"}
    assert check(model, words, RIGHT_PADDED, max_new_tokens=5).rules == set()
    expected = model.generate(**inputs, num_beams=2)
    with watch(model, words) as calls:
        output = model.generate(**inputs, num_beams=2)
        words.batch_decode(output)
    assert torch.equal(output, expected)
    assert {"ignored-sampling-flags"} <= calls[0].report.rules <= {"length", "ignored-sampling-flags"}
    assert [row.new_ids for row in calls[0].rows] == [_written(ids) for ids in output[:, 1:].tolist()]


def _written(ids: list[int]) -> list[int]:
    """Up to the end token, with it."""
    return ids[: ids.index(END) + 1] if END in ids else ids


# --- every way to a call -----------------------------------------------------------------------------------------


def test_only_the_calls_of_the_model_that_was_named(tiny, words):
    other = tiny_model(seed=3)
    with watch(tiny, words) as calls:
        other.generate(WORDS, max_new_tokens=2)
        tiny.generate(WORDS, max_new_tokens=3)
        other.generate(WORDS, max_new_tokens=4)
    assert [len(call.new_ids) for call in calls] == [3]


def test_every_call_in_the_process_where_no_model_is_named(tiny, words):
    other = tiny_model(seed=3)
    with watch(tokenizer=words) as calls:
        other.generate(WORDS, max_new_tokens=2)
        tiny.generate(WORDS, max_new_tokens=3)
    assert [len(call.new_ids) for call in calls] == [2, 3]


@pytest.mark.parametrize("by_keyword", [True, False])
def test_generate_called_through_the_class(by_keyword, tiny, words):
    with watch(tiny, words) as calls:
        if by_keyword:
            output = GenerationMixin.generate(self=tiny, inputs=WORDS, max_new_tokens=3)
        else:
            output = GenerationMixin.generate(tiny, WORDS, max_new_tokens=3)
    assert torch.equal(output, tiny.generate(WORDS, max_new_tokens=3))
    assert calls[0].prompt_ids == WORDS[0].tolist() and calls[0].new_ids == output[0, 3:].tolist()


def test_generate_of_remote_code_on_the_instance(words):
    model = tiny_model()

    def remote(model, *args, **kwargs):
        return GenerationMixin.generate(model, *args, **kwargs, repetition_penalty=1.2)

    model.generate = own = functools.partial(remote, model)
    expected = model.generate(WORDS, max_new_tokens=3)
    with watch(model, words) as calls:
        assert torch.equal(model.generate(WORDS, max_new_tokens=3), expected)
    assert vars(model)["generate"] is own
    assert calls[0].settings.repetition_penalty == 1.2


def test_generate_overridden_by_the_models_class(words):
    class Twice(LlamaForCausalLM):
        def generate(self, inputs, **kwargs):
            return super().generate(super().generate(inputs, **kwargs), **kwargs)

    model = tiny_model(model=Twice)
    settings = {"max_new_tokens": 2, "eos_token_id": None}
    expected = model.generate(WORDS, **settings)
    with watch(model, words) as calls:
        assert torch.equal(model.generate(WORDS, **settings), expected)
    assert [call.input_ids.shape[1] for call in calls] == [3, 5]


@pytest.mark.parametrize("wrap", [Wrapper, torch.compile, lambda model: Wrapper(torch.compile(model))])
@pytest.mark.parametrize("named", ["wrapper", "inner"])
def test_a_wrapper_around_the_model(wrap, named, tiny, words):
    wrapper = wrap(tiny)
    with watch(wrapper if named == "wrapper" else tiny, words) as calls:
        output = wrapper.generate(WORDS, max_new_tokens=3)
    assert torch.equal(output, tiny.generate(WORDS, max_new_tokens=3)) and len(calls) == 1


@pytest.mark.parametrize("wrap", [Wrapper, torch.compile, torch.nn.DataParallel])
def test_check_looks_into_a_wrapper(wrap, tiny, words):
    settings = {"temperatur": 1, "max_length": 3, "temperature": 0.2}
    found = check(wrap(tiny).eval(), words, RIGHT_PADDED, **settings).rules
    assert found == check(tiny, words, RIGHT_PADDED, **settings).rules
    assert {"unknown-argument", "padding-side", "max-length"} <= found


@pytest.mark.parametrize(
    ("given", "count"),
    [("w50 w60", 1), (["w50 w60", "w70"], 2), (CHAT, 1), ([CHAT, CHAT], 2)],
    ids=["text", "texts", "chat", "chats"],
)
@pytest.mark.parametrize("named", [True, False])
def test_pipelines(given, count, named, tiny, words):
    ask = pipeline("text-generation", model=tiny, tokenizer=words, device="cpu")
    seeded()
    expected = ask(given, max_new_tokens=3)
    seeded()
    with watch(*((tiny, words) if named else ())) as calls:
        output = ask(given, max_new_tokens=3)
    assert output == expected
    assert len(calls) == count and all(call.error is None for call in calls)
    assert all("model-defaults" in call.report.rules for call in calls), "it samples by default"
    assert not any({"prompt-echo", "special-tokens-kept"} & call.report.rules for call in calls)
    text = expected[0][0] if count > 1 else expected[0]
    assert calls[0].new_text in str(text["generated_text"]), "the pipeline's tokenizer was used"


def test_a_batch_in_a_pipeline_is_one_call(tiny, words):
    ask = pipeline("text-generation", model=tiny, tokenizer=words, device="cpu")
    with watch(tiny) as calls:
        ask(["w50 w60", "w70"], max_new_tokens=3, do_sample=False, batch_size=2)
    assert [len(call.rows) for call in calls] == [2]
    assert "padding-side" not in calls[0].report.rules


def test_a_pipeline_that_gives_its_results_one_by_one(tiny, words):
    ask = pipeline("text-generation", model=tiny, tokenizer=words, device="cpu")
    with watch() as calls:
        for _ in ask((text for text in ["w50 w60", "w70"]), max_new_tokens=3):
            pass
    assert len(calls) == 2 and all("model-defaults" in call.report.rules and call.new_text for call in calls)


def test_what_was_asked_of_a_pipeline_is_not_its_default(tiny, words):
    ask = pipeline("text-generation", model=tiny, tokenizer=words, device="cpu")
    with watch(tiny) as calls:
        ask("w50", do_sample=True, temperature=0.7, max_new_tokens=3)
    assert "model-defaults" not in calls[0].report.rules


# --- what is said ------------------------------------------------------------------------------------------------


def test_the_report_is_about_the_call_and_what_came_of_it(tiny, words):
    with watch(tiny, words) as calls:
        tiny.generate(**RIGHT_PADDED, max_new_tokens=30, logits_processor=[Script(3, [90])])
    assert {"padding-side", "decoding-mode"} <= calls[0].report.rules
    assert "decoding-mode" not in check(tiny, words, RIGHT_PADDED, max_new_tokens=30).rules, "it needs the output"


def test_a_correct_call_is_silent(tiny, words):
    with watch(tiny, words) as calls:
        output = tiny.generate(**BATCH, max_new_tokens=6, logits_processor=[Script(3, [90, 91, END])])
        words.batch_decode(output[:, 3:], skip_special_tokens=True)
    assert str(calls[0].report) == "No pitfall found."


def test_decoding_after_the_call_is_looked_at(tiny, words):
    inputs = words.apply_chat_template(CHAT, add_generation_prompt=True, return_dict=True, return_tensors="pt")
    with watch(tiny, words) as calls:
        output = tiny.generate(
            **inputs, max_new_tokens=6, logits_processor=[Script(inputs["input_ids"].shape[1], [90, END])]
        )
        assert calls[0].report.rules == set()
        text = words.decode(output[0])
    assert text == words.decode(output[0]) and text.endswith("<end>")
    assert calls[0].report.rules == {"prompt-echo", "special-tokens-kept"}


def test_a_decoding_after_the_block_changes_nothing(tiny, words):
    with watch(tiny, words) as calls:
        output = tiny.generate(WORDS, max_new_tokens=6, logits_processor=[Script(3, [90, END])])
    words.decode(output[0])
    assert calls[0].report.rules == set()


@pytest.mark.parametrize("ids", [torch.tensor([5, 6]), [5, 6], 5, [[5], [6, 7]], numpy.array([5, 6]), []])
def test_decoding_anything_gives_what_it_gives(ids, tiny, words):
    expected = [words.decode(ids), outcome(lambda: words.batch_decode([ids]))]
    with watch(tiny, words):
        tiny.generate(WORDS, max_new_tokens=1)
        assert [words.decode(ids), outcome(lambda: words.batch_decode([ids]))] == expected
        assert [words.decode(token_ids=ids), outcome(lambda: words.batch_decode(sequences=[ids]))] == expected


def test_what_decode_raises_goes_up(tiny, words):
    expected = outcome(lambda: words.decode("no ids"))
    with watch(tiny, words):
        assert outcome(lambda: words.decode("no ids")) == expected
        assert outcome(lambda: words.decode()) == outcome(lambda: words.decode())
        with pytest.raises(TypeError, match=r"decode\(\) missing"):
            words.decode()


def test_logits_that_are_not_numbers(tiny, words):
    class Nan(LogitsProcessor):
        def __call__(self, input_ids, scores):
            rows = torch.arange(len(scores))[:, None] >= len(scores) * 2 // 3
            return scores.masked_fill(rows, float("nan"))

    for settings in ({}, {"num_beams": 2}):
        with watch(tiny, words) as calls:
            tiny.generate(**BATCH, max_new_tokens=3, logits_processor=[Nan()], **settings)
        message = next(finding.message for finding in calls[0].report if finding.rule == "nan-logits")
        assert message.startswith("Row 2's")


def test_the_record_is_of_what_went_in_and_came_out(tiny, words):
    ids = WORDS.clone()
    with watch(tiny, words) as calls:
        output = tiny.generate(ids, max_new_tokens=2)
    ids.fill_(0)
    output.fill_(0)
    assert calls[0].output_ids[0, :3].tolist() == WORDS[0].tolist()
    assert calls[0].input_ids.tolist() == WORDS.tolist()


def test_a_tokenizer_is_not_needed(tiny):
    with watch(tiny) as calls:
        tiny.generate(**RIGHT_PADDED, max_new_tokens=2)
    assert "padding-side" in calls[0].report.rules and calls[0].rows[0].new_text == ""
    assert "no tokenizer, so no text" in repr(calls[0])


@pytest.mark.parametrize("tokenizer", ["gpt2", object(), PreTrainedTokenizerFast, 3])
def test_something_else_than_a_tokenizer_costs_the_texts_only(tokenizer, tiny):
    with watch(tiny, tokenizer) as calls:
        output = tiny.generate(WORDS, max_new_tokens=2)
    assert calls[0].new_ids == output[0, 3:].tolist()


# --- what raises -------------------------------------------------------------------------------------------------

MISTAKES = {
    "unknown-argument": lambda m: m.generate(WORDS, max_new_token=3),
    "unknown-argument-called-model": lambda m: m.generate(WORDS, model=3),
    "unknown-argument-called-original": lambda m: m.generate(WORDS, original=3),
    "unknown-argument-called-args": lambda m: m.generate(WORDS, args=3, kwargs=4),
    "twice": lambda m: m.generate(WORDS, inputs=WORDS),
    "too-many": lambda m: m.generate(*[None] * 30),
    "two-inputs": lambda m: m.generate(WORDS, input_ids=WORDS),
    "past-embedding": lambda m: m.generate(torch.tensor([[50, VOCABULARY]])),
    "negative-id": lambda m: m.generate(torch.tensor([[50, -1]])),
    "one-dimension": lambda m: m.generate(WORDS[0]),
    "no-rows": lambda m: m.generate(WORDS[:0]),
    "no-tokens": lambda m: m.generate(WORDS[:, :0]),
    "text": lambda m: m.generate("w50 w60"),
    "list": lambda m: m.generate([[50, 60]]),
    "dict": lambda m: m.generate(BATCH),
    "array": lambda m: m.generate(WORDS.numpy()),
    "floats": lambda m: m.generate(WORDS.float()),
    "mask-of-another-shape": lambda m: m.generate(WORDS, attention_mask=torch.ones(2, 7)),
    "max-length": lambda m: m.generate(WORDS, max_length=2),
    "temperature": lambda m: m.generate(WORDS, do_sample=True, temperature=0.0),
    "sequences": lambda m: m.generate(WORDS, num_return_sequences=3),
    "streamer": lambda m: m.generate(WORDS, num_beams=2, streamer=Collector()),
    "stop-strings": lambda m: m.generate(WORDS, stop_strings=["w5"]),
    "configuration": lambda m: m.generate(WORDS, generation_config={"max_new_tokens": 2}),
    "one-processor": lambda m: m.generate(WORDS, logits_processor=Script(3, [5])),
    "one-processor-by-position": lambda m: m.generate(WORDS, None, Script(3, [5])),
    "processor-zero": lambda m: m.generate(WORDS, logits_processor=0),
    "processor-text": lambda m: m.generate(WORDS, logits_processor="ab"),
    "processor-is-no-processor": lambda m: m.generate(WORDS, logits_processor=[3]),
    "one-criterion": lambda m: m.generate(WORDS, stopping_criteria=Quiet()),
    "length-is-text": lambda m: m.generate(WORDS, max_new_tokens="5"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_what_generate_raises_goes_up_unchanged(name, tiny, words):
    expected = outcome(lambda: MISTAKES[name](tiny))
    assert isinstance(expected[0], type) and issubclass(expected[0], Exception), "the case must raise"
    with watch(tiny, words) as calls:
        assert outcome(lambda: MISTAKES[name](tiny)) == expected
    assert len(calls) == 1 and type(calls[0].error) is expected[0] and str(calls[0].error) == expected[1]
    assert calls[0].rows == [] and f"raised {expected[0].__name__}" in repr(calls[0])
    with pytest.raises(ValueError, match=f"This call raised {expected[0].__name__}, so it has no rows"):
        calls[0].new_text  # noqa: B018


@pytest.mark.parametrize(
    "error", [RuntimeError("mine"), KeyboardInterrupt(), SystemExit(3), GeneratorExit(), KeyError(5)]
)
def test_an_error_in_the_middle_is_the_same_object(error, tiny, words):
    with watch(tiny, words) as calls:
        with pytest.raises(type(error)) as raised:
            tiny.generate(**RIGHT_PADDED, max_new_tokens=9, logits_processor=[Raises(error)])
        tiny.generate(WORDS, max_new_tokens=1)
    assert raised.value is error and calls[0].error is error and calls[1].error is None
    assert "padding-side" in calls[0].report.rules


def test_the_note_names_the_rule(tiny, words):
    with watch(tiny, words) as calls, pytest.raises(ValueError) as raised:
        tiny.generate(WORDS, max_new_token=3)
    assert "error: unknown-argument" in notes(raised.value) and "max_new_tokens" in notes(raised.value)
    assert calls[0].report.rules >= {"unknown-argument"}
    assert "pitfalls" not in str(raised.value)


def test_an_error_that_has_no_cause_in_the_call_gets_no_note(tiny, words):
    with watch(tiny, words), pytest.raises(RuntimeError) as raised:
        tiny.generate(WORDS, max_new_tokens=9, logits_processor=[Raises(RuntimeError("mine"))])
    assert notes(raised.value) == ""


def test_one_note_however_many_blocks_see_the_error(tiny, words):
    with pytest.raises(ValueError) as raised, watch(None, words), watch(tiny_model(seed=3), words), watch(tiny, words):
        tiny.generate(WORDS, max_new_token=3)
    assert notes(raised.value).count("pitfalls says") == 1


def test_one_note_where_the_same_error_object_is_raised_twice(tiny, words):
    error = RuntimeError("probability tensor contains either `inf`, `nan` or element < 0")
    with watch(tiny, words) as calls:
        for _ in range(2):
            with pytest.raises(RuntimeError):
                tiny.generate(**RIGHT_PADDED, max_new_tokens=9, logits_processor=[Raises(error)])
    assert notes(error).count("pitfalls says") == 1 and [call.error for call in calls] == [error, error]


def test_a_report_that_can_not_be_written_does_not_hide_the_error(tiny, words, monkeypatch, caplog):
    def broken(self):
        raise OSError("no text")

    monkeypatch.setattr(Report, "__str__", broken)
    with watch(tiny, words) as calls, pytest.raises(ValueError, match="max_new_token"):
        tiny.generate(WORDS, max_new_token=3)
    assert "unknown-argument" in calls[0].report.rules
    caplog.clear()


def test_a_rule_that_fails_changes_nothing(tiny, words, monkeypatch, caplog):
    def broken(request):
        raise OSError("a rule")

    monkeypatch.setitem(pitfalls.RULES, "broken", dataclasses.replace(pitfalls.RULES["length"], look=broken))
    assert "padding-side" in check(tiny, words, RIGHT_PADDED, max_new_tokens=30).rules
    with watch(tiny, words) as calls:
        tiny.generate(**RIGHT_PADDED, max_new_tokens=2)
    assert "padding-side" in calls[0].report.rules
    said = [record.getMessage() for record in caplog.records if record.name == "pitfalls"]
    assert said == ["the rule broken could not look at this call (OSError)", "the rule broken failed"] * 2
    caplog.clear()


def test_rows_that_can_not_be_read_are_a_call_all_the_same(tiny, words, monkeypatch, caplog):
    def broken(*args):
        raise OSError("no rows")

    monkeypatch.setattr(watcher, "rows_of", broken)
    with watch(tiny, words) as calls:
        output = tiny.generate(**RIGHT_PADDED, max_new_tokens=2)
    assert output.shape == (2, 5) and len(calls) == 1 and calls[0].rows == []
    assert "padding-side" in calls[0].report.rules
    caplog.clear()


# --- errors outside generate -------------------------------------------------------------------------------------


def test_padding_without_a_pad_token():
    words = make_tokenizer(pad_token=None)
    with pytest.raises(ValueError, match="padding token") as raised, watch(None, words) as calls:
        words(["w5 w6", "w7"], padding=True, return_tensors="pt")
    assert "pad-token" in notes(raised.value) and list(calls) == []


@pytest.mark.filterwarnings("ignore")
def test_load_in_4bit(tmp_path, tiny):
    tiny.save_pretrained(tmp_path)
    with pytest.raises((TypeError, ValueError), match="load_in_4bit") as raised, watch():
        LlamaForCausalLM.from_pretrained(tmp_path, load_in_4bit=True)
    assert "removed-keyword" in notes(raised.value) and "BitsAndBytesConfig" in notes(raised.value)


def test_a_missing_chat_template():
    words = make_tokenizer(chat_template=None)
    with pytest.raises(ValueError, match="chat_template is not set") as raised, watch(None, words):
        words.apply_chat_template(CHAT)
    assert "template-on-base-model" in notes(raised.value)


@pytest.mark.parametrize("error", [ValueError("mine"), KeyboardInterrupt(), StopIteration(5)])
def test_any_other_error_leaves_the_block_as_it_is(error, tiny, words):
    with pytest.raises(type(error)) as raised, watch(tiny, words):
        raise error
    assert raised.value is error and notes(error) == ""


# --- nothing is changed ------------------------------------------------------------------------------------------


def test_the_callers_objects_stay_as_they_are(words):
    model = tiny_model()
    processors, criteria = LogitsProcessorList([Script(3, [90])]), StoppingCriteriaList([Quiet()])
    config = GenerationConfig(max_new_tokens=4, repetition_penalty=1.1, eos_token_id=[END, 9], pad_token_id=PAD)
    arguments = {**BATCH, "logits_processor": processors, "stopping_criteria": criteria, "generation_config": config}
    kept = dict(arguments)
    before = config.to_dict(), model.generation_config.to_dict(), model.config.to_dict(), list(vars(model))
    attributes = vars(config).keys(), set(vars(model.generation_config))
    mask = BATCH["attention_mask"].clone()
    with watch(model, words):
        model.generate(**arguments)
    assert arguments == kept and len(processors) == len(criteria) == 1
    assert (config.to_dict(), model.generation_config.to_dict(), model.config.to_dict(), list(vars(model))) == before
    assert (vars(config).keys(), set(vars(model.generation_config))) == attributes
    assert torch.equal(BATCH["attention_mask"], mask)


def test_check_leaves_everything_as_it_is(words):
    model = tiny_model()
    arguments = {**RIGHT_PADDED, "generation_config": GenerationConfig(max_length=3, temperature=0.2)}
    kept = copy.deepcopy(arguments)
    before = model.generation_config.to_dict(), list(vars(model)), words.padding_side, len(words)
    seeded()
    state = random_state()
    assert len(check(model, words, arguments, top_p=3.0)) > 1
    assert random_state() == state
    assert (model.generation_config.to_dict(), list(vars(model)), words.padding_side, len(words)) == before
    assert as_plain(arguments) == as_plain(kept)
    assert arguments["generation_config"].to_dict() == kept["generation_config"].to_dict()


def test_check_runs_no_forward_pass(words):
    model = tiny_model()
    seen = []
    for module in model.modules():
        module.register_forward_pre_hook(lambda *_: seen.append(True))
    check(model, words, RIGHT_PADDED, max_new_tokens=3)
    assert seen == []


SPOKEN = {
    "flags": lambda m: m.generate(WORDS, max_new_tokens=2, temperature=0.2, top_p=0.3),
    "two-lengths": lambda m: m.generate(WORDS, max_new_tokens=2, max_length=9),
    "no-length": lambda m: m.generate(WORDS),
    "no-mask": lambda m: m.generate(BATCH["input_ids"], max_new_tokens=2, eos_token_id=PAD),
    "right-padding": lambda m: m.generate(**RIGHT_PADDED, max_new_tokens=2),
    "past-the-window": lambda m: m.generate(WORDS.repeat(1, 42), max_new_tokens=4),
    "own-processor": lambda m: m.generate(
        LOOPING, repetition_penalty=2.0, logits_processor=[RepetitionPenaltyLogitsProcessor(3.0)]
    ),
    "raises": lambda m: m.generate(WORDS, max_new_tokens=2, do_sample=True, temperature=-1.0),
}


class Heard(logging.Handler):
    def __init__(self):
        super().__init__()
        self.said = []

    def emit(self, record):
        self.said.append((record.levelname, record.name, record.getMessage(), record.pathname, record.lineno))


def heard(function) -> tuple:
    """What transformers logs and warns in a call, and where it says it comes from."""
    transformers_logging.warning_once.cache_clear()
    transformers_logging.info_once.cache_clear()
    handler, logger = Heard(), logging.getLogger("transformers")
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            outcome(function)
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
    return handler.said, [(w.category, str(w.message), w.filename, w.lineno) for w in caught]


OLDEST = __version__.startswith("5.0.")  # it says nothing of a length that nobody gave


@pytest.mark.parametrize("name", SPOKEN)
def test_transformers_says_what_it_says_without_us(name, tiny, words):
    expected = heard(lambda: SPOKEN[name](tiny))
    silent = ("raises", "no-length") if OLDEST else ("raises",)
    assert name in silent or any(expected), "the case needs something to hear"
    with watch(tiny, words):
        assert heard(lambda: SPOKEN[name](tiny)) == expected


@pytest.mark.parametrize("name", SPOKEN)
def test_check_says_nothing_of_its_own(name, tiny, words):
    """A message that is said once per process must be left for the call itself."""
    model = tiny_model()
    model.generate = lambda *args, **kwargs: check(model, words, *(args or [kwargs]), **(kwargs if args else {}))
    assert heard(lambda: SPOKEN[name](model)) == ([], [])


# --- blocks ------------------------------------------------------------------------------------------------------


def test_nested_blocks_of_the_same_model_see_the_same_calls(tiny, words):
    expected = tiny.generate(WORDS, max_new_tokens=3)
    with watch(tiny, words) as outer:
        tiny.generate(WORDS, max_new_tokens=2)
        with watch(tiny) as inner:
            assert torch.equal(tiny.generate(WORDS, max_new_tokens=3), expected)
        tiny.generate(WORDS, max_new_tokens=4)
    assert [len(call.new_ids) for call in outer] == [2, 3, 4]
    assert [len(call.new_ids) for call in inner] == [3]
    assert outer[1].new_text == inner[0].new_text, "the second finds the tokenizer among the names here"


def test_nested_blocks_of_different_models(tiny, words):
    other = tiny_model(seed=3)
    with watch(tiny, words) as first, watch(other, words) as second, watch(None, words) as all_of_them:
        for model in (tiny, other, tiny):
            model.generate(WORDS, max_new_tokens=1)
    assert (len(first), len(second), len(all_of_them)) == (2, 1, 3)


def test_blocks_that_overlap(tiny, words):
    first, second = watch(tiny, words), watch(tiny, words)
    one, two = first.__enter__(), second.__enter__()
    tiny.generate(WORDS, max_new_tokens=1)
    first.__exit__(None, None, None)
    tiny.generate(WORDS, max_new_tokens=2)
    second.__exit__(None, None, None)
    tiny.generate(WORDS, max_new_tokens=3)
    assert (len(one), len(two)) == (1, 2)


def test_one_watch_opened_twice(tiny, words):
    both = watch(tiny, words)
    with both as calls:
        with both:
            tiny.generate(WORDS, max_new_tokens=1)
        tiny.generate(WORDS, max_new_tokens=2)
    with both as again:
        tiny.generate(WORDS, max_new_tokens=3)
    assert again is calls and [len(call.new_ids) for call in calls] == [1, 2, 3]


def test_record_inside_a_block(tiny, words):
    expected = record(tiny, words, WORDS, max_new_tokens=3)
    with watch(tiny, words) as calls:
        recorded = record(tiny, words, WORDS, max_new_tokens=3)
    assert recorded.rows == expected.rows and recorded.steps
    assert recorded.settings.to_dict() == expected.settings.to_dict()
    assert calls[0].new_ids == recorded.new_ids and calls[0].stopped_by == recorded.stopped_by


def test_a_generate_call_inside_another_is_part_of_it(tiny, words):
    class Asks(LogitsProcessor):
        def __call__(self, input_ids, scores):
            tiny.generate(WORDS, max_new_tokens=1)
            return scores

    with watch(tiny, words) as calls:
        tiny.generate(WORDS, max_new_tokens=2, logits_processor=[Asks()], eos_token_id=None)
    assert [len(call.new_ids) for call in calls] == [2]
    assert calls[0].stopped_by == "length"


def test_a_method_that_someone_else_replaces_meanwhile_is_left_to_them(tiny, words):
    original = GenerationMixin.generate
    with watch(tiny, words) as calls:
        ours = GenerationMixin.generate

        def theirs(self, *args, **kwargs):
            return ours(self, *args, **kwargs)

        GenerationMixin.generate = theirs
        tiny.generate(WORDS, max_new_tokens=1)
    try:
        assert GenerationMixin.generate is theirs and len(calls) == 1
        assert tiny.generate(WORDS, max_new_tokens=2).shape == (1, 5) and len(calls) == 1
        with watch(tiny, words) as later:
            tiny.generate(WORDS, max_new_tokens=3)
        assert GenerationMixin.generate is theirs and [len(call.new_ids) for call in later] == [3]
    finally:
        GenerationMixin.generate = original


@pytest.mark.parametrize("error", [RuntimeError("mine"), KeyboardInterrupt()])
def test_all_is_restored_after_an_error(error, words):
    model = tiny_model()
    before = list(vars(model)), methods()
    with pytest.raises(type(error)), watch(model, words), watch(None):
        model.generate(WORDS, max_new_tokens=9, logits_processor=[Raises(error)])
    assert (list(vars(model)), methods()) == before
    assert model.generate(WORDS, max_new_tokens=9).shape[1] > 3


# --- threads -----------------------------------------------------------------------------------------------------


def in_threads(function, count: int = 4) -> None:
    """Run `function(n)` in threads that start together; what one raises is raised here."""
    errors, barrier = [], threading.Barrier(count)

    def run(n):
        try:
            barrier.wait(20)
            function(n)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(n,)) for n in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads)
    if errors:
        raise errors[0]


def test_one_model_in_several_threads(tiny, words):
    expected = {n: tiny.generate(WORDS + n, max_new_tokens=3 + n).tolist() for n in range(4)}

    def generate(n):
        for _ in range(3):
            assert tiny.generate(WORDS + n, max_new_tokens=3 + n).tolist() == expected[n]

    with watch(tiny, words) as calls:
        in_threads(generate)
    assert sorted(call.output_ids.tolist() for call in calls) == sorted(list(expected.values()) * 3)
    for call in calls:
        n = call.prompt_ids[0] - 50
        assert call.settings.max_new_tokens == 3 + n, "each with its own settings"
        assert call.prompt_ids + call.new_ids == expected[n][0]


def test_several_models_in_several_threads(words):
    several = [tiny_model(seed=n) for n in range(4)]
    expected = [model.generate(WORDS, max_new_tokens=4).tolist() for model in several]
    with watch(several[1], words) as one, watch(None, words) as every:
        in_threads(lambda n: several[n].generate(WORDS, max_new_tokens=4))
    assert [call.output_ids.tolist() for call in one] == [expected[1]]
    assert sorted(call.output_ids.tolist() for call in every) == sorted(expected)


def test_blocks_opened_in_several_threads(words):
    several = [tiny_model(seed=n) for n in range(4)]

    def generate(n):
        for turn in range(4):
            with watch(several[n], words) as calls:
                output = several[n].generate(WORDS, max_new_tokens=1 + turn)
            assert [call.output_ids.tolist() for call in calls] == [output.tolist()]

    in_threads(generate)


def test_errors_in_several_threads_are_explained_each_by_its_own_call(tiny, words):
    names = ["max_tokens", "temp", "beam_size", "seed"]
    errors = {}

    def generate(n):
        for _ in range(3):
            try:
                tiny.generate(WORDS, **{names[n]: 3})
            except ValueError as error:
                errors.setdefault(n, []).append(error)

    with watch(tiny, words) as calls:
        in_threads(generate)
    assert len(calls) == 12 and sum(map(len, errors.values())) == 12
    assert all(repr(names[n]) in notes(error) for n, found in errors.items() for error in found)


def test_recording_in_several_threads_inside_a_block(tiny, words):
    expected = [record(tiny, words, WORDS + n, max_new_tokens=2 + n).rows for n in range(4)]
    found = {}
    with watch(tiny, words) as calls:
        in_threads(lambda n: found.update({n: record(tiny, words, WORDS + n, max_new_tokens=2 + n).rows}))
    assert [found[n] for n in range(4)] == expected and len(calls) == 4


def test_a_thread_that_ends_after_the_block(tiny, words):
    started, closed = threading.Event(), threading.Event()

    class Waits(LogitsProcessor):
        def __call__(self, input_ids, scores):
            started.set()
            assert closed.wait(20)
            return scores

    settings = {"max_new_tokens": 3, "logits_processor": [Waits()]}
    output = []
    thread = threading.Thread(target=lambda: output.append(tiny.generate(WORDS, **settings)))
    with watch(tiny, words) as calls:
        thread.start()
        assert started.wait(20)
    closed.set()
    thread.join(20)
    assert torch.equal(output[0], tiny.generate(WORDS, max_new_tokens=3))
    assert torch.equal(calls[0].output_ids, output[0])


# --- memory ------------------------------------------------------------------------------------------------------


@pytest.fixture
def small_heap():
    """What was there before is left out of the garbage collection, which takes long with all of transformers."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


def tensors() -> list[torch.Tensor]:
    return [thing for thing in gc.get_objects() if type(thing) is torch.Tensor]


def test_memory_is_flat_over_two_thousand_tokens(words, small_heap):
    model = tiny_model(max_position_embeddings=4096, num_hidden_layers=1)
    counts = {}

    class Counts(LogitsProcessor):
        def __call__(self, input_ids, scores):
            if input_ids.shape[1] - 3 in (200, 1000, 1990):
                gc.collect()
                counts[input_ids.shape[1] - 3] = len(tensors()), sys.getallocatedblocks()
            return scores

    with watch(model, words) as calls:
        model.generate(WORDS, max_new_tokens=2000, eos_token_id=None, logits_processor=[Counts()])
    assert len(calls[0].new_ids) == 2000
    assert counts[1990][0] == counts[1000][0] == counts[200][0]
    assert counts[1990][1] - counts[200][1] < 500, "less than a third of an object for each token"


def last_outputs(model) -> dict:
    """Weak references to the cache and the logits of the latest forward pass."""
    seen = {}

    def note(module, args, output):
        seen["logits"], seen["cache"] = weakref.ref(output.logits), weakref.ref(output.past_key_values)

    model.register_forward_hook(note)
    return seen


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"num_beams": 2},
        {"do_sample": True},
        {"return_dict_in_generate": True, "output_scores": True, "output_logits": True},
        {"cache_implementation": "static"},
    ],
)
def test_no_cache_and_no_logits_are_kept_after_a_call(settings, words, small_heap):
    model = tiny_model()
    seen = last_outputs(model)
    gc.collect()
    before = {id(tensor) for tensor in tensors()}
    with watch(model, words) as calls:
        model.generate(**BATCH, max_new_tokens=4, **settings)
        gc.collect()
        assert seen["logits"]() is None
        assert seen["cache"]() is None or "cache_implementation" in settings, "a static cache stays with its model"
        new = [tensor for tensor in tensors() if id(tensor) not in before]
        assert not [tensor.shape for tensor in new if VOCABULARY in tensor.shape]
    assert len(calls[0].rows) == 3


def test_the_callers_own_cache_is_not_kept(words, small_heap):
    model = tiny_model()
    cache = model(WORDS, use_cache=True).past_key_values
    dead = weakref.ref(cache)
    with watch(model, words) as calls:
        model.generate(torch.cat([WORDS, WORDS], dim=1), past_key_values=cache, max_new_tokens=2)
        del cache
        gc.collect()
        assert dead() is None
    assert len(calls) == 1


def test_embeddings_are_not_kept(tiny, words, small_heap):
    embeddings = tiny.get_input_embeddings()(WORDS).detach()
    dead = weakref.ref(embeddings)
    with watch(tiny, words) as calls:
        tiny.generate(inputs_embeds=embeddings, max_new_tokens=2)
        del embeddings
        gc.collect()
        assert dead() is None
    assert len(calls) == 1


def fails(model, seen) -> None:
    try:
        model.generate(WORDS, max_new_tokens=9, logits_processor=[Raises(RuntimeError("out of memory"))])
    except RuntimeError:
        assert seen["cache"]() is not None, "the case needs a cache in the traceback"


def test_an_error_frees_the_cache_before_the_next_call(words, small_heap):
    """Whoever runs out of memory and tries again with less must not find it taken."""
    model = tiny_model()
    seen = last_outputs(model)
    with watch(model, words) as calls:
        fails(model, seen)
        first = dict(seen)
        freed = []

        class Looks(LogitsProcessor):
            def __call__(self, input_ids, scores):
                gc.collect()
                freed.append(first["cache"]() is None and first["logits"]() is None)
                return scores

        model.generate(WORDS, max_new_tokens=1, logits_processor=[Looks()])
    assert freed == [True]
    assert str(calls[0].error) == "out of memory" and calls[0].error.__traceback__ is not None


def test_an_error_frees_the_cache_at_the_end_of_the_block(words, small_heap):
    model = tiny_model()
    seen = last_outputs(model)
    with watch(model, words) as calls:
        fails(model, seen)
    gc.collect()
    assert seen["cache"]() is None and seen["logits"]() is None
    assert calls[0].error is not None


def test_an_error_leaves_the_callers_own_frames_as_they_are(words):
    model = tiny_model()

    def read():
        mine = "what a debugger would look at"
        model.generate(WORDS, max_new_tokens=9, logits_processor=[Raises(RuntimeError("mine"))])
        return mine

    with watch(model, words):
        try:
            read()
        except RuntimeError as raised:
            error = raised
        model.generate(WORDS, max_new_tokens=1)
    trace, seen = error.__traceback__, {}
    while trace:
        if trace.tb_frame.f_globals["__name__"] == __name__:
            seen[trace.tb_frame.f_code.co_name] = trace.tb_frame.f_locals
        trace = trace.tb_next
    assert seen["read"]["mine"] == "what a debugger would look at"
    assert seen["__call__"]["self"].error is error, "the caller's processor"


def test_errors_that_name_each_other_as_their_context(tiny, words):
    one, other = RuntimeError("one"), RuntimeError("other")
    with watch(tiny, words) as calls:
        with pytest.raises(RuntimeError):
            tiny.generate(WORDS, max_new_tokens=9, logits_processor=[Raises(one)])
        one.__context__, other.__context__ = other, one
        tiny.generate(WORDS, max_new_tokens=1)
    assert [call.error for call in calls] == [one, None]


def test_models_and_tokenizers_are_not_kept_after_the_block(words, small_heap):
    model = tiny_model()
    dead = weakref.ref(model)
    with watch(model, words) as calls:
        model.generate(WORDS, max_new_tokens=2)
        check(model, words, WORDS, max_new_token=2)
    del model
    gc.collect()
    assert dead() is None and len(calls) == 1


# --- check never raises ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", [None, "gpt2", object(), LlamaForCausalLM, torch.nn.Linear(2, 2)])
@pytest.mark.parametrize("tokenizer", [None, "gpt2", object(), PreTrainedTokenizerFast])
@pytest.mark.parametrize("inputs", [None, "a text", WORDS, BATCH, object()])
def test_check_takes_anything(model, tokenizer, inputs):
    assert isinstance(check(model, tokenizer, inputs, max_new_tokens=3), Report)


def test_check_takes_every_argument_of_generate_as_a_keyword(tiny, words):
    report = check(tiny, words, WORDS, stop_strings=["."], tokenizer=words, max_new_tokens=30)
    assert "stop-strings" not in report.rules
    assert "stop-strings" in check(tiny, words, WORDS, stop_strings=["."], max_new_tokens=30).rules


def test_check_by_keyword_is_check_by_position(tiny, words):
    by_position = check(tiny, words, RIGHT_PADDED, max_new_tokens=30)
    assert by_position.rules >= {"padding-side"}
    assert (
        check(model=tiny, tokenizer=words, inputs=RIGHT_PADDED, max_new_tokens=30).as_dicts() == by_position.as_dicts()
    )
    assert check(tiny, words, inputs=RIGHT_PADDED, max_new_tokens=30).as_dicts() == by_position.as_dicts()
    assert check(tiny, words, **RIGHT_PADDED, max_new_tokens=30).as_dicts() == by_position.as_dicts()


def test_check_of_a_mapping_that_breaks(tiny, words):
    class Broken(dict):
        def keys(self):
            raise RuntimeError("broken")

        __iter__ = keys

    assert isinstance(check(tiny, words, Broken(a=1)), Report)


# --- reports -----------------------------------------------------------------------------------------------------

NOTE = Finding("a-note", "note", 'Says <b>little</b> & "much".', "x = 1\ny = '<i>'", "04_length")
ERROR = Finding("an-error", "error", "It raises.", "fix()", "08_your_own_code")


def test_errors_come_first_and_a_rule_speaks_once():
    report = Report([NOTE, ERROR, NOTE])
    assert [finding.rule for finding in report] == ["an-error", "a-note"]
    assert len(report) == 2 and report.rules == {"a-note", "an-error"}


@pytest.mark.parametrize(
    ("terminal", "no_color", "coloured"), [(True, None, True), (True, "", False), (False, None, False)]
)
def test_colour_only_on_a_terminal_that_wants_it(terminal, no_color, coloured, monkeypatch):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: terminal, raising=False)
    monkeypatch.delenv("NO_COLOR", raising=False)
    if no_color is not None:
        monkeypatch.setenv("NO_COLOR", no_color)
    report = Report([ERROR, NOTE])
    assert ("\x1b[" in repr(report)) is coloured
    assert "\x1b[" not in str(report) and str(report).startswith("error: an-error\n")


def test_html_is_escaped(tiny, words):
    page = Report([NOTE])._repr_html_()
    assert "&lt;b&gt;little&lt;/b&gt; &amp;" in page and "&lt;i&gt;" in page and "<i>" not in page
    with watch(tiny, words) as calls, pytest.raises(ValueError):
        tiny.generate(WORDS, **{"<script>": 1})
    assert "<script>" not in calls._repr_html_() and "&lt;script&gt;" in calls._repr_html_()


def test_html_of_texts_is_escaped(tiny, words):
    with watch(tiny, words) as calls:
        tiny.generate(WORDS, max_new_tokens=2, logits_processor=[Script(3, [0, END])])
        words.decode(torch.tensor([3]))
    page = calls._repr_html_()
    assert "call 0" in page and "<end>" not in page and "<unk>" not in page


def test_raise_for_errors():
    Report().raise_for_errors()
    Report([NOTE]).raise_for_errors()
    with pytest.raises(PitfallError, match="an-error") as raised:
        Report([NOTE, ERROR]).raise_for_errors()
    assert "a-note" not in str(raised.value) and "\x1b[" not in str(raised.value)


def test_dicts_are_json(tiny, words):
    report = check(tiny, words, RIGHT_PADDED, max_length=3, temperature=0.2, top_p=torch.tensor(3.0))
    found = json.loads(json.dumps(report.as_dicts()))
    assert [entry["rule"] for entry in found] == [finding.rule for finding in report] and len(found) > 2
    assert set(found[0]) == {"rule", "severity", "message", "fix", "lesson", "link"}


def test_an_empty_report_says_so():
    assert str(Report()) == repr(Report()) == "No pitfall found." and "No pitfall found." in Report()._repr_html_()
    assert len(Report()) == 0 and Report().as_dicts() == []


def test_calls_tell_each_call(tiny, words):
    with watch(tiny, words) as calls:
        assert repr(calls) == "No generate call was seen." and "No generate call" in calls._repr_html_()
        tiny.generate(WORDS, max_new_tokens=2, logits_processor=[Script(3, [90, END])])
        with pytest.raises(ValueError):
            tiny.generate(WORDS, max_length=2)
    lines = repr(calls).splitlines()
    assert lines[0].startswith("call 0: row 0: 3 prompt tokens, 2 new, stopped by end-of-sequence: 'w90'")
    assert any(line.startswith("call 1: raised ValueError") for line in lines)
    assert "call 1" in calls._repr_html_() and isinstance(calls, list)


def test_a_pipeline_stands_for_its_model_and_its_tokenizer(model, tokenizer, tiny):
    pipe = pipeline("text-generation", model=model, tokenizer=tokenizer)
    with pitfalls.watch(pipe) as calls:
        pipe("1, 2,", max_new_tokens=1)
        tiny.generate(torch.tensor([[5, 6]]), max_new_tokens=1)
    assert [call.prompt_text for call in calls] == ["1, 2,"]


def test_what_is_neither_model_nor_pipeline_is_refused_with_what_to_do(tokenizer):
    with pytest.raises(TypeError, match=r"watch takes a model or a pipeline; this is a TokenizersBackend"):
        pitfalls.watch(tokenizer)


def test_two_calls_can_be_compared(tiny):
    with pitfalls.watch(tiny) as calls:
        tiny.generate(torch.tensor([[5, 6]]), max_new_tokens=1)
        tiny.generate(torch.tensor([[5, 6]]), max_new_tokens=1)
    assert calls[0] == calls[0] and calls[0] != calls[1]
