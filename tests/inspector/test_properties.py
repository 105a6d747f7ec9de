"""Whatever a call is given: `check` never raises and no rule fails, and `watch` never changes what generate does."""

import logging
from contextlib import contextmanager
from types import SimpleNamespace

import numpy
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import BatchEncoding, GenerationConfig

from pitfalls import Report, check, watch
from tests.helpers import WORD_TEMPLATE, tiny_llama, word_tokenizer

VOCABULARY = 40

pytestmark = pytest.mark.filterwarnings("ignore")


PAD, END, START = {"pad_token": "<pad>"}, {"eos_token": "<end>"}, {"bos_token": "<start>"}
MODELS = [tiny_llama(VOCABULARY, window, sharpness=40, pad_token_id=1) for window in (64, 8)]
MODEL = MODELS[0]
TOKENIZERS = [
    word_tokenizer(VOCABULARY, **PAD, **END, **START, chat_template=WORD_TEMPLATE),
    word_tokenizer(VOCABULARY, **PAD, **END),
    word_tokenizer(VOCABULARY, **END, **START, chat_template=WORD_TEMPLATE.replace("{% if", "{% if false and")),
    word_tokenizer(VOCABULARY, pad_token="<end>", **END, chat_template="{{ raise_exception('no chat') }}"),
    word_tokenizer(VOCABULARY, chat_template="{{ messages[0].content }}"),
    word_tokenizer(VOCABULARY),
]
FORWARDS = []
for _model in MODELS:
    _model.register_forward_pre_hook(lambda *_: FORWARDS.append(True))


class Failures(logging.Handler):
    def __init__(self):
        super().__init__(logging.DEBUG)
        self.said = []

    def emit(self, record):
        self.said.append(f"{record.getMessage()}: {record.exc_info and record.exc_info[1]!r}")


@contextmanager
def nothing_fails():
    """No rule fails, and no call could not be recorded: the log of the package, at level DEBUG, stays empty."""
    log, failures = logging.getLogger("pitfalls"), Failures()
    level = log.level
    log.addHandler(failures)
    log.setLevel(logging.DEBUG)
    try:
        yield
    finally:
        log.removeHandler(failures)
        log.setLevel(level)
    assert failures.said == []


# --- what a call may be given ------------------------------------------------------------------------------------

ROWS, TOKENS = st.integers(0, 4), st.integers(0, 12)
INTEGERS = [torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8]
OTHERS = [torch.bool, torch.float32, torch.float16, torch.bfloat16, torch.complex64, torch.uint16, torch.uint32]


@st.composite
def id_tensors(draw, low: int = 0, high: int = VOCABULARY - 1):
    """Ids of any number of rows, padded or not, with special tokens among them more often than by chance."""
    rows, tokens = draw(ROWS), draw(TOKENS)
    ids = st.one_of(st.integers(low, high), st.sampled_from([1, 2, 3, 4, 5]))
    flat = draw(st.lists(ids, min_size=rows * tokens, max_size=rows * tokens))
    made = torch.tensor(flat, dtype=torch.int64).reshape(rows, tokens)
    left, right = draw(st.integers(0, 3)), draw(st.integers(0, 3))
    if rows and draw(st.booleans()):
        made[0, :left] = 1
        made[-1, tokens - min(right, tokens) :] = 1
    return made


@st.composite
def masks(draw, ids: torch.Tensor):
    kind = draw(st.sampled_from(["pads", "ones", "zeros", "random", "other shape", "one dimension", "list"]))
    if kind == "pads":
        return (ids != 1).to(draw(st.sampled_from([torch.int64, torch.bool, torch.float32])))
    if kind == "other shape":
        return torch.ones((ids.shape[0] + 1, ids.shape[1]), dtype=torch.int64)
    if kind == "one dimension":
        return torch.ones(ids.shape[1], dtype=torch.int64)
    if kind == "list":
        return (ids != 1).long().tolist()
    if kind == "random":
        return torch.tensor(draw(st.lists(st.integers(0, 1), min_size=ids.numel(), max_size=ids.numel()))).view(
            ids.shape
        )
    return torch.full_like(ids, kind == "ones")


@st.composite
def encodings(draw, low: int = 0, high: int = VOCABULARY - 1):
    ids = draw(id_tensors(low, high))
    given = {"input_ids": ids}
    if draw(st.booleans()):
        given["attention_mask"] = draw(masks(ids))
    if draw(st.integers(0, 5)) == 0:
        given["token_type_ids"] = torch.zeros_like(ids)
    return draw(st.sampled_from([dict, BatchEncoding]))(given)


ODD_TENSORS = st.builds(
    lambda ids, dtype, change: change(ids.to(dtype)),
    id_tensors(),
    st.sampled_from(INTEGERS + OTHERS),
    st.sampled_from(
        [
            lambda ids: ids,
            lambda ids: ids.flatten(),
            lambda ids: ids[None],
            lambda ids: ids.to("meta"),
            lambda ids: ids.to_sparse() if ids.dtype in INTEGERS else ids,
            lambda ids: ids.t(),
            lambda ids: ids.sum().to(ids.dtype),
        ]
    ),
)
NUMBERS = st.one_of(
    st.booleans(),
    st.integers(-3, 30),
    st.sampled_from([10**20, -(10**20), 2**31, 0]),
    st.floats(allow_nan=True, allow_infinity=True),
)
OBJECTS = st.sampled_from(
    [
        object(),
        SimpleNamespace(shape=(1, 2)),
        SimpleNamespace(tokenizer=None),
        int,
        len,
        numpy.array([[7, 8]]),
        numpy.array([0.5, 0.7]),
        numpy.float32(0.5),
        numpy.int64(3),
        numpy.array("text"),
        torch.tensor(3),
        torch.tensor([0.5]),
        torch.tensor([1, 2, 3]),
        torch.tensor([], dtype=torch.int64),
        torch.ones(2, 2, device="meta"),
        BatchEncoding({"input_ids": [[7, 8]]}),
        GenerationConfig(max_length=9),
        {1, 2},
        b"bytes",
        ...,
        ValueError("a value"),
    ]
)
LEAVES = st.one_of(st.none(), NUMBERS, st.text(max_size=5), OBJECTS)
NONSENSE = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.tuples(inner, inner),
        st.dictionaries(st.one_of(st.text(max_size=3), st.integers(0, 3), st.none()), inner, max_size=3),
        st.dictionaries(st.sampled_from(["input_ids", "attention_mask", "inputs"]), inner, max_size=3),
    ),
    max_leaves=5,
)
SENSIBLE = {
    "max_new_tokens": st.integers(1, 6),
    "max_length": st.integers(1, 24),
    "min_new_tokens": st.integers(0, 3),
    "do_sample": st.booleans(),
    "temperature": st.sampled_from([0.0, 0.3, 1.0, 1.5]),
    "top_k": st.integers(0, 60),
    "top_p": st.sampled_from([0.0, 0.5, 1.0, 1.5]),
    "min_p": st.sampled_from([0.0, 0.1, 2.0]),
    "typical_p": st.sampled_from([0.2, 1.0]),
    "repetition_penalty": st.sampled_from([0.5, 1.0, 1.3, -1.0]),
    "no_repeat_ngram_size": st.integers(0, 3),
    "num_beams": st.integers(1, 3),
    "num_return_sequences": st.integers(1, 3),
    "use_cache": st.booleans(),
    "eos_token_id": st.one_of(st.none(), st.integers(0, 39), st.lists(st.integers(0, 39), min_size=1, max_size=3)),
    "pad_token_id": st.one_of(st.none(), st.sampled_from([0, 1, 2])),
    "return_dict_in_generate": st.booleans(),
    "renormalize_logits": st.booleans(),
    "prompt_lookup_num_tokens": st.integers(1, 3),
    "bad_words_ids": st.sampled_from([[[7]], [[8, 9]]]),
}
OTHER_NAMES = [
    "generation_config",
    "logits_processor",
    "stopping_criteria",
    "streamer",
    "stop_strings",
    "tokenizer",
    "assistant_model",
    "past_key_values",
    "inputs_embeds",
    "bos_token_id",
    "penalty_alpha",
    "max_time",
    "custom_generate",
    "input_ids",
    "inputs",
    "attention_mask",
    "position_ids",
    "max_tokens",
    "model",
    "original",
    "self",
    "stop",
    "",
    "kwargs",
]


def some_of(strategies: dict, most: int):
    """Values for at most so many of the names."""
    names = st.lists(st.sampled_from(sorted(strategies)), unique=True, max_size=most)
    return names.flatmap(lambda chosen: st.fixed_dictionaries({name: strategies[name] for name in chosen}))


ODD_SETTINGS = some_of(dict.fromkeys([*SENSIBLE, *OTHER_NAMES], NONSENSE), 4)


def checked(model, tokenizer, inputs, arguments: dict) -> Report:
    before = len(FORWARDS)
    with nothing_fails():
        report = check(model, tokenizer, inputs, **arguments)
    assert isinstance(report, Report) and len(FORWARDS) == before, "without a forward pass"
    assert isinstance(str(report), str) and isinstance(report._repr_html_(), str)
    assert {finding.severity for finding in report} <= {"error", "warning", "note"}
    assert all(type(value) is str for entry in report.as_dicts() for value in entry.values())
    return report


# --- check -------------------------------------------------------------------------------------------------------


@given(
    st.sampled_from(MODELS), st.sampled_from([None, *TOKENIZERS]), encodings(-2, VOCABULARY + 2), some_of(SENSIBLE, 6)
)
def test_check_of_ids_of_any_shape_under_any_settings(model, tokenizer, inputs, arguments):
    checked(model, tokenizer, inputs, arguments)


@given(st.sampled_from(TOKENIZERS), encodings(), ODD_SETTINGS)
def test_check_of_settings_that_make_no_sense(tokenizer, inputs, arguments):
    arguments.pop("self", None)
    checked(MODEL, tokenizer, inputs, arguments)


@given(st.sampled_from([None, *TOKENIZERS]), st.one_of(ODD_TENSORS, NONSENSE), some_of(SENSIBLE, 2))
def test_check_of_inputs_that_are_no_inputs(tokenizer, inputs, arguments):
    checked(MODEL, tokenizer, inputs, arguments)


@given(ODD_TENSORS, st.one_of(ODD_TENSORS, NONSENSE), st.sampled_from([None, *TOKENIZERS]))
def test_check_of_tensors_of_any_type_and_shape(ids, mask, tokenizer):
    checked(MODEL, tokenizer, {"input_ids": ids, "attention_mask": mask}, {"max_new_tokens": 3})


@given(st.one_of(NONSENSE, st.sampled_from(MODELS)), st.one_of(NONSENSE, st.sampled_from(TOKENIZERS)), encodings())
def test_check_of_models_and_tokenizers_that_are_none(model, tokenizer, inputs):
    checked(model, tokenizer, inputs, {"max_new_tokens": 3})


@given(encodings(), some_of(SENSIBLE, 4), st.sampled_from(TOKENIZERS))
def test_a_setting_counts_the_same_in_a_configuration_of_the_caller(inputs, arguments, tokenizer):
    """What may differ is about the place of a setting."""
    arguments = {name: value for name, value in arguments.items() if value not in (None, 0, 1.0, False, [])}
    arguments.pop("use_cache", None)
    apart = checked(MODEL, tokenizer, inputs, arguments).rules
    try:
        config = GenerationConfig(**arguments)
    except ValueError:  # values that a configuration refuses
        return
    together = checked(MODEL, tokenizer, inputs, {"generation_config": config}).rules
    assert together ^ apart <= {"ignored-sampling-flags", "model-defaults"}


# --- watch -------------------------------------------------------------------------------------------------------


def plain(thing):
    if isinstance(thing, torch.Tensor):
        return thing.tolist()
    if isinstance(thing, dict):
        return type(thing), {name: plain(value) for name, value in thing.items()}
    return type(thing)


def outcome(inputs, arguments: dict) -> tuple:
    """What generate returns or raises, and where it leaves the random numbers."""
    torch.manual_seed(5)
    try:
        if isinstance(inputs, (dict, BatchEncoding)):
            result = plain(MODEL.generate(**inputs, **arguments))
        else:
            result = plain(MODEL.generate(inputs, **arguments))
    except Exception as error:
        result = type(error), str(error)
    return result, torch.get_rng_state().tolist()


def watched(tokenizer, inputs, arguments: dict) -> None:
    expected = outcome(inputs, arguments)
    config = MODEL.generation_config.to_dict()
    with nothing_fails(), watch(MODEL, tokenizer) as calls:
        found = outcome(inputs, arguments)
    assert found == expected
    assert MODEL.generation_config.to_dict() == config
    result = expected[0]
    raised = isinstance(result, tuple) and isinstance(result[0], type) and issubclass(result[0], Exception)
    assert all((call.error is not None) is raised for call in calls)
    if isinstance(result, list):
        assert [call.output_ids.tolist() for call in calls] == [result]
        assert [len(call.rows) for call in calls] == [len(result)]
    return None


@given(st.sampled_from([None, *TOKENIZERS]), encodings(), some_of(SENSIBLE, 5), st.integers(1, 4))
def test_watch_changes_nothing_under_any_settings(tokenizer, inputs, arguments, length):
    if "max_length" not in arguments:
        arguments.setdefault("max_new_tokens", length)
    watched(tokenizer, inputs, arguments)


NOT_RUN = {"max_time", "self"}  # the clock decides; or it is the call itself that fails


@given(st.sampled_from([None, *TOKENIZERS]), encodings(), ODD_SETTINGS)
def test_watch_changes_nothing_where_settings_make_no_sense(tokenizer, inputs, arguments):
    arguments = {name: value for name, value in arguments.items() if name not in {*NOT_RUN, *inputs}}
    for name in ("max_new_tokens", "max_length", "num_beams", "num_return_sequences", "prompt_lookup_num_tokens"):
        value = arguments.get(name)
        if isinstance(value, (int, float)) and value > 30:
            arguments[name] = 3  # what would be allocated
    watched(tokenizer, inputs, {"max_new_tokens": 3} | arguments)


@given(st.sampled_from([None, *TOKENIZERS]), st.one_of(ODD_TENSORS, NONSENSE))
def test_watch_changes_nothing_where_inputs_are_no_inputs(tokenizer, inputs):
    if isinstance(inputs, dict) and not all(isinstance(name, str) for name in inputs):
        inputs = [inputs]
    watched(tokenizer, inputs, {} if isinstance(inputs, dict) and "max_new_tokens" in inputs else {"max_new_tokens": 2})
