"""The rules of pitfalls/inspector/rules/constraints.py: a section for each, in their order."""

import copy

import pytest
import torch
from transformers import (
    LogitsProcessor,
    M2M100Config,
    M2M100ForConditionalGeneration,
    MBartConfig,
    MBartForConditionalGeneration,
    StoppingCriteria,
    StoppingCriteriaList,
)

import pitfalls
from pitfalls.inspector.call import Call
from pitfalls.inspector.rules import RULES
from tests.helpers import END
from tests.inspector.rules.calls import ASKED, bare, chat_of, explained, ids, rules, variant, watched

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


def banned(tokenizer, *words: str) -> list[list[int]]:
    return tokenizer(list(words), add_special_tokens=False)["input_ids"]


# --- bad-words --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("words", [["Paris"], ["Paris", "London", " London"], ["Zanzibar"]])
def test_bad_words_in_one_form(words, tiny, tokenizer):
    found = rules(tiny, tokenizer, ids([50]), bad_words_ids=banned(tokenizer, *words))["bad-words"]
    assert repr(words[0]) in found.message and f"' {words[0]}'" in found.fix


@pytest.mark.parametrize(
    "words", [["Paris", " Paris"], [" Paris"], [" New York", "New York"], ["###"], ["\n\n"], ["!"]]
)
def test_bad_words_in_the_form_inside_a_text(words, tiny, tokenizer):
    assert not rules(tiny, tokenizer, ids([50]), bad_words_ids=banned(tokenizer, *words))
    assert not rules(variant(tiny, bad_words_ids=[[50]]), tokenizer, ids([50])), "the model's own"


@pytest.mark.parametrize(("ban", "said"), [("Paris", "It is Paris."), (" Paris", "Paris is it")])
def test_bad_words_that_were_written(ban, said, tiny, tokenizer):
    found = watched(tiny, tokenizer, ids([50]), said, bad_words_ids=banned(tokenizer, ban))["bad-words"]
    assert "the text has it" in found.message


def test_bad_words_that_were_not_written(tiny, tokenizer):
    settings = {"bad_words_ids": banned(tokenizer, "cat")}
    assert "bad-words" not in watched(tiny, tokenizer, ids([50]), " a category", **settings), "another word"
    assert "bad-words" not in watched(tiny, tokenizer, ids([50]), " a dog", **settings)


@pytest.mark.parametrize("given", [[50], ["Paris"], []])
def test_bad_words_that_are_no_list_of_lists(given, tiny, tokenizer):
    assert rules(tiny, tokenizer, ids([50]), bad_words_ids=given)["bad-words"].severity == "error"
    assert "bad-words" in explained(tiny, tokenizer, lambda: tiny.generate(**ids([50]), bad_words_ids=given))


# --- ngrams-of-prompt -------------------------------------------------------------------------------------------


def test_ngrams_of_prompt_break_a_name(tiny, tokenizer):
    name = tokenizer(" Zanzibella", add_special_tokens=False)["input_ids"]
    assert len(name) > 2
    inputs, said = bare(tokenizer, "My name is Zanzibella. You are"), [*name[:2], 80, 81, 82, 83]
    found = watched(tiny, tokenizer, inputs, said, no_repeat_ngram_size=3)["ngrams-of-prompt"]
    assert repr(tokenizer.decode(name[2:3])) in found.message and repr(tokenizer.decode(name[:2])) in found.message
    assert "no_repeat" not in found.fix
    assert "ngrams-of-prompt" not in watched(tiny, tokenizer, inputs, [80, 81, 82], no_repeat_ngram_size=3)
    assert "ngrams-of-prompt" not in watched(tiny, tokenizer, inputs, said)
    assert "ngrams-of-prompt" not in watched(tiny, tokenizer, inputs, said, no_repeat_ngram_size=4)
    assert "ngrams-of-prompt" not in rules(tiny, tokenizer, inputs, no_repeat_ngram_size=3), "nothing shows before"


def test_ngrams_of_one_token(tiny, tokenizer):
    assert not rules(tiny, tokenizer, ids([50]), no_repeat_ngram_size=2)
    found = rules(tiny, tokenizer, ids([50]), no_repeat_ngram_size=1)["ngrams-of-prompt"]
    assert "no token come twice" in found.message


def test_ngrams_of_prompt_forbid_the_end_token(tiny, tokenizer):
    chat = chat_of(tokenizer, ASKED)  # ends its turns with "?" or "." and the end token
    before = chat["input_ids"][0, (chat["input_ids"][0] == END).nonzero()[0, 0] - 1].item()
    found = watched(tiny, tokenizer, chat, [80, before, 81, 82, 83, 84], no_repeat_ngram_size=2)
    assert "'<|im_end|>'" in found["ngrams-of-prompt"].message
    ended = watched(tiny, tokenizer, chat, [80, before, 81, END], no_repeat_ngram_size=2)
    assert "ngrams-of-prompt" not in ended, "it could end behind another word"


@pytest.mark.parametrize(
    ("prompt", "said"),
    [("The capital of France is large.", " The capital city"), ("12 and 15", " 13"), ("北京 北京", "北海")],
)
def test_pairs_that_meet_by_chance(prompt, said, tiny, tokenizer):
    assert "ngrams-of-prompt" not in watched(tiny, tokenizer, bare(tokenizer, prompt), said, no_repeat_ngram_size=2)


# --- min-length -------------------------------------------------------------------------------------------------


def test_min_length_that_the_prompt_has_already(tiny, tokenizer):
    inputs = ids(list(range(50, 80)))
    for wanted in (10, 17, 30):
        found = rules(tiny, tokenizer, inputs, min_length=wanted)["min-length"]
        assert f"min_length={wanted} counts the 30 tokens of the prompt" in found.message
        assert f"min_new_tokens={wanted}" in found.fix
    assert "2 new ones were written" in watched(tiny, tokenizer, inputs, [80, END], min_length=10)["min-length"].message
    assert "min-length" in watched(tiny, tokenizer, inputs, [*[80] * 10, END], min_length=40, max_new_tokens=20)


def test_min_length_that_counts_the_prompt_on_purpose_or_did_no_harm(tiny, tokenizer):
    inputs = ids(list(range(50, 81)))
    assert not rules(tiny, tokenizer, inputs, min_length=31 + 5)
    assert not rules(tiny, tokenizer, inputs, min_new_tokens=5)
    assert not rules(tiny, tokenizer, inputs, min_length=0)
    assert not rules(variant(tiny, min_length=5), tokenizer, inputs)
    assert "min-length" not in watched(tiny, tokenizer, inputs, [80], min_length=20, max_new_tokens=6), "cut anyway"
    assert "min-length" not in watched(tiny, tokenizer, inputs, [*[80] * 5, END], min_length=36, max_new_tokens=9)
    assert "min-length" not in watched(tiny, tokenizer, inputs, [*[80] * 9, END], min_length=10, max_new_tokens=20)


# --- allowed-tokens ---------------------------------------------------------------------------------------------


def test_allowed_tokens(tiny, tokenizer):
    def program(row, ids):
        return {(): [80]}.get(tuple(ids.tolist()), [])

    note = explained(
        tiny, tokenizer, lambda: tiny.generate(**ids([50, 51, 52]), prefix_allowed_tokens_fn=program, max_new_tokens=2)
    )
    assert "ids[3:]" in note["allowed-tokens"] and "prompt-template" not in note
    assert RULES["allowed-tokens"](Call(error=ValueError("another"))) is None


# --- processors -------------------------------------------------------------------------------------------------


class Ban(LogitsProcessor):
    def __init__(self, answer: bool):
        self.answer = answer

    def __call__(self, input_ids, scores):
        scores[:, 50] = -float("inf")
        return scores if self.answer else None


class Never(StoppingCriteria):
    def __call__(self, input_ids, scores, **kwargs):
        return torch.zeros(len(input_ids), dtype=torch.bool)


def test_processors_that_return_nothing_or_stand_alone(tiny, tokenizer):
    asked = tokenizer("1, 2,", return_tensors="pt")
    for settings, words in (
        ({"logits_processor": [Ban(True), Ban(False)]}, "must end with `return scores`"),
        ({"logits_processor": Ban(True)}, "logits_processor is a Ban, and must be a list"),
        ({"stopping_criteria": Never()}, "stopping_criteria is a Never, and must be a list"),
    ):
        note = explained(tiny, tokenizer, lambda s=settings: tiny.generate(**asked, max_new_tokens=2, **s))
        assert list(note) == ["processors"] and words in " ".join(note["processors"].split())


def test_processors_in_lists_and_errors_that_are_not_theirs(tiny, tokenizer):
    asked = tokenizer("1, 2,", return_tensors="pt")
    lists = {"logits_processor": [Ban(True)], "stopping_criteria": StoppingCriteriaList([Never()])}
    assert "processors" not in watched(tiny, tokenizer, asked, max_new_tokens=2, **lists)
    wrong = {"logits_processor": [Ban(True)], "max_new_tokens": "2"}
    assert "processors" not in explained(tiny, tokenizer, lambda: tiny.generate(**asked, **wrong))


# --- target-language --------------------------------------------------------------------------------------------

TINY = {"d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "encoder_ffn_dim": 16, "decoder_ffn_dim": 16}
TINY |= {"encoder_attention_heads": 2, "decoder_attention_heads": 2, "pad_token_id": 2, "eos_token_id": 2}


@pytest.fixture(scope="module")
def translator(tokenizer):
    own = copy.deepcopy(tokenizer)
    own.add_tokens(["eng_Latn", "fra_Latn"], special_tokens=True)
    own.add_special_tokens({"extra_special_tokens": ["eng_Latn", "fra_Latn"]})
    torch.manual_seed(0)
    config = M2M100Config(vocab_size=len(own), decoder_start_token_id=2, **TINY)
    return own, M2M100ForConditionalGeneration(config).eval()


def test_target_language(translator):
    tokenizer, model = translator
    found = rules(model, tokenizer, bare(tokenizer, "Hello!"))["target-language"]
    assert "convert_tokens_to_ids('fra_Latn')" in found.fix
    assert "target-language" in rules(model, None, ids([50]))
    with pitfalls.watch(model, tokenizer) as calls:
        model.generate(**ids([50]), max_new_tokens=2)
    assert "target-language" in calls[0].report.rules


def test_a_target_language_that_is_said(translator, tokenizer, tiny):
    own, model = translator
    french = own.convert_tokens_to_ids("fra_Latn")
    assert "target-language" not in rules(model, own, ids([50]), forced_bos_token_id=french)
    assert "target-language" not in rules(variant(model, forced_bos_token_id=french), own, ids([50]))
    assert "target-language" not in rules(model, own, ids([50]), decoder_input_ids=torch.tensor([[2, french]]))
    assert "target-language" not in rules(model, own, ids([50]), decoder_start_token_id=french)
    early = MBartForConditionalGeneration(MBartConfig(vocab_size=99, decoder_start_token_id=77, **TINY))
    assert "target-language" not in rules(early, None, ids([50])), "the language is its start token"
    assert "target-language" not in rules(tiny, tokenizer, ids([50]))
