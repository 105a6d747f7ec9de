"""The rules of pitfalls/inspector/rules/padding.py: a section for each, in their order."""

import copy
import functools

import pytest
import torch
from transformers import DynamicCache

import pitfalls
from tests.helpers import END, tiny_llama
from tests.inspector.rules.calls import (
    AGAIN,
    ANSWERED,
    ASKED,
    bare,
    chat_of,
    copied,
    explained,
    ids,
    rules,
    variant,
    watched,
)

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


# --- padding-side -----------------------------------------------------------------------------------------------


def test_padding_side_names_the_row_and_counts_the_pads(tiny, tokenizer):
    inputs = bare(tokenizer, "1, 2, 3, 4, 5", "1, 2", padding_side="right")
    pads = (inputs["attention_mask"][1] == 0).sum().item()
    finding = rules(tiny, tokenizer, inputs)["padding-side"]
    assert finding.severity == "error" and f"Row 1 ends in {pads} pad tokens" in finding.message
    assert "padding-side" in watched(tiny, tokenizer, inputs)


@pytest.mark.parametrize("mask", [None, [[1] * 6], [[1, 1, 1, 1, 0, 0]]])
def test_padding_side_of_one_row(mask, speaker):
    own, model = speaker("gpt-2")
    found = rules(model, own, ids([50, 51, 52, 53, 0, 0], mask=mask))
    assert "pad token" in found["padding-side"].message


def test_padding_side_where_a_mask_of_ones_stands_over_the_pads(speaker):
    own, model = speaker("llama")
    pad = own.pad_token_id
    found = rules(model, own, ids([50, 51, pad, pad], [60, 61, 62, 63], mask=[[1] * 4] * 2))
    assert "2 pad tokens" in found["padding-side"].message and "reads as text" in found["attention-mask"].message


E0 = 0  # <|endoftext|>, of which GPT-2 makes everything
PADDED_RIGHTLY = {
    "left": ids([E0, E0, 50], [60, 61, 62], mask=[[0, 0, 1], [1, 1, 1]]),
    "a beginning in each row": ids([E0, E0, 50], [E0, 61, 62], mask=[[0, 1, 1], [1, 1, 1]]),
    "a beginning in one row": ids([E0, E0, 50], [60, 61, 62], mask=[[0, 1, 1], [1, 1, 1]]),
    "an end in each row": ids([E0, 50, E0], [60, 61, E0], mask=[[0, 1, 1], [1, 1, 1]]),
    "an end in one row": ids([E0, 50, E0], [60, 61, 62], mask=[[0, 1, 1], [1, 1, 1]]),
    "turns that end, no mask": ids([50, 51, E0, 60, 61, E0]),
    "rows that end, no mask": ids([50, E0, 51, E0], [60, 61, 62, E0]),
    "a beginning, no mask": ids([E0, 50, 51]),
    "nothing but a beginning": ids([E0]),
    "equal rows, no mask": ids([50, 51], [60, 61]),
    "true and false": {"input_ids": torch.tensor([[E0, 50], [60, 61]]),
                       "attention_mask": torch.tensor([[False, True], [True, True]])},
    "a mask of four dimensions": {"input_ids": torch.tensor([[50, 51]]), "attention_mask": torch.ones(1, 1, 2, 2)},
    "a mask for the cache too": {"input_ids": torch.tensor([[50]]), "attention_mask": torch.ones(1, 5),
                             "past_key_values": DynamicCache()},
}  # fmt: skip


@pytest.mark.parametrize("given", PADDED_RIGHTLY.values(), ids=PADDED_RIGHTLY)
def test_padding_is_fine_where_one_token_is_pad_beginning_and_end(given, speaker):
    own, model = speaker("gpt-2")
    assert not rules(model, own, given)


@pytest.mark.parametrize("chat", [ANSWERED, [*AGAIN, {"role": "assistant", "content": "Madrid."}]])
def test_turns_that_all_end_in_an_end_token_are_no_padding(chat, speaker):
    own, model = speaker("dialogpt")
    assert not rules(model, own, chat_of(own, chat))
    assert not rules(model, own, chat_of(own, [chat, [*chat, *ASKED]], padding=True))


# --- attention-mask ---------------------------------------------------------------------------------------------


def test_attention_mask_that_is_missing_or_all_ones(speaker):
    own, model = speaker("llama")
    inputs = bare(own, "1, 2, 3, 4, 5", "1, 2")
    pads = (inputs["attention_mask"][1] == 0).sum().item()
    found = rules(model, own, inputs["input_ids"])["attention-mask"]
    assert found.severity == "error" and f"Row 1 has {pads} pad tokens" in found.message
    assert "there is no attention mask" in found.message
    ones = {"input_ids": inputs["input_ids"], "attention_mask": torch.ones_like(inputs["input_ids"])}
    assert "the mask is one there" in rules(model, own, ones)["attention-mask"].message
    assert set(watched(model, own, inputs["input_ids"])) == {"attention-mask"}


def test_a_mask_that_hides_the_wrong_end_of_the_row(tiny, tokenizer):
    own = copied(tokenizer)
    own.pad_token = "<|endoftext|>"
    model = variant(tiny, pad_token_id=own.pad_token_id)
    given = ids([E0, E0, 50, 51], [60, 61, 62, 63], mask=[[1, 1, 0, 0], [1, 1, 1, 1]])
    assert "Row 0 has 2 pad tokens" in rules(model, own, given)["attention-mask"].message


def test_attention_mask_is_found_by_generate_where_the_pad_is_a_token_of_its_own(tiny, tokenizer):
    own = copied(tokenizer)
    own.pad_token = "<|endoftext|>"
    inputs = bare(own, "1, 2, 3, 4, 5", "1, 2")["input_ids"]
    assert not rules(variant(tiny, pad_token_id=own.pad_token_id), own, inputs)
    assert "attention-mask" in rules(variant(tiny, pad_token_id=None), own, inputs), "the model doesn't know the pad"
    ends = variant(tiny, pad_token_id=own.pad_token_id, eos_token_id=[END, own.pad_token_id])
    assert "attention-mask" in rules(ends, own, inputs), "a pad that is an end token too is not masked"


@pytest.mark.parametrize("like", ["llama", "gpt-2", "qwen", "gemma"])
def test_padding_with_the_end_token_is_fine_with_a_mask(like, speaker):
    own, model = speaker(like)
    inputs = bare(own, "1, 2, 3, 4, 5", "1, 2")
    assert inputs["attention_mask"][1, 0] == 0 and own.pad_token_id == own.eos_token_id
    assert not rules(model, own, inputs)


@pytest.mark.parametrize("like", ["llama", "gpt-2", "qwen", "gemma"])
def test_rows_of_equal_length_need_no_mask(like, speaker):
    own, model = speaker(like)
    inputs = bare(own, "1, 2, 3", "4, 5, 6")
    assert inputs["attention_mask"].all()
    assert not rules(model, own, inputs["input_ids"])


@pytest.mark.parametrize(
    ("mask", "said"),
    [([[1, 1, 1]], "is a list"), (torch.ones(3), r"shape (3,)"), (torch.ones(1, 5), "shape (1, 5)"),
     (torch.ones(1, 3, 3), "shape (1, 3, 3)")],
)  # fmt: skip
def test_attention_mask_of_another_shape(mask, said, tiny, tokenizer):
    found = rules(tiny, tokenizer, ids([50, 51, 52]) | {"attention_mask": mask})
    assert said in found["attention-mask"].message


def test_attention_mask_of_another_shape_is_right_with_a_cache(tiny, tokenizer):
    cache = DynamicCache(config=tiny.config)
    tiny(ids([50, 51])["input_ids"], past_key_values=cache)
    given = {"past_key_values": cache, "attention_mask": torch.ones(1, 3, dtype=torch.long)}
    assert not set(rules(tiny, tokenizer, ids([52]) | given)) & {"attention-mask", "mask-holes", "padding-side"}


@pytest.mark.parametrize("pad", [True, False])
@pytest.mark.parametrize("texts", [["1, 2, 3, 4, 5", "1, 2"], [ASKED, AGAIN]])
def test_the_fix_pads_on_the_left_as_the_mistake_was_made(texts, pad, tiny, tokenizer):
    own = copied(tokenizer)
    make = functools.partial(chat_of, own, texts, padding=True) if texts[0] is ASKED else lambda: bare(own, *texts)
    own.padding_side = "right"
    wrong = make()
    own.pad_token = own.pad_token if pad else None
    for name, given in (("padding-side", wrong), ("attention-mask", wrong["input_ids"])):
        found = rules(tiny, own, given)
        if name in found:
            names = {"model": tiny, "tokenizer": copied(own), "texts": texts, "messages": texts}
            with pitfalls.watch(tiny, names["tokenizer"]) as calls:
                exec(found[name].fix, names)
            assert not set(calls.report.rules) & {"padding-side", "attention-mask", "generation-prompt"}
        assert "padding-side" in found


# --- mask-holes -------------------------------------------------------------------------------------------------


def compared(tokenizer, inputs):
    """The mask that is made by comparing the ids with the pad."""
    return {**inputs, "attention_mask": (inputs["input_ids"] != tokenizer.pad_token_id).long()}


@pytest.mark.parametrize("like", ["qwen", "llama-3", "zephyr"])
def test_mask_holes(like, speaker):
    own, model = speaker(like)
    assert own.pad_token_id == own.eos_token_id
    for chats in ([AGAIN], [ASKED, AGAIN]):
        inputs = chat_of(own, chats, padding=True)
        found = rules(model, own, compared(own, inputs))["mask-holes"]
        assert found.severity == "warning" and repr(own.pad_token) in found.message
        assert "apply_chat_template" in found.fix and "mask-holes" not in rules(model, own, inputs)


def test_mask_holes_within_a_bare_text(speaker):
    own, model = speaker("gpt-2")
    found = rules(model, own, compared(own, ids([50, 51, E0, 60, 61], [E0, E0, 70, 71, 72])))
    assert "Row 0 has '<|endoftext|>' once" in found["mask-holes"].message
    assert "apply_chat_template" not in found["mask-holes"].fix


def test_mask_holes_that_generate_makes_by_itself(tiny, tokenizer):
    """A mask that is not given, and a pad that is the end of each turn and is not among the end ids."""
    other = variant(tiny, eos_token_id=0, pad_token_id=END)
    inputs = chat_of(tokenizer, AGAIN)
    assert "mask-holes" in rules(other, tokenizer, inputs["input_ids"])
    assert "mask-holes" not in rules(other, tokenizer, inputs)
    assert "mask-holes" not in rules(variant(tiny, pad_token_id=END), tokenizer, inputs["input_ids"])


HIDDEN_RIGHTLY = {
    "pads between two texts": ids([50, 51, END, END, END, 60, 61], mask=[[1, 1, 0, 0, 0, 1, 1]]),
    "an end and pads between two texts": ids([50, 51, END, END, END, 60, 61], mask=[[1, 1, 1, 0, 0, 1, 1]]),
    "a pad and an end": ids([END, 50, 51, END, 60], mask=[[0, 1, 1, 1, 1]]),
    "one word": ids([50, 51, 52, 53], mask=[[1, 0, 1, 1]]),
    "a pad of its own": ids([50, 51, 0, 60, 61], mask=[[1, 1, 0, 1, 1]]),
    "nothing": ids([50, 51, END, 60], mask=[[1, 1, 1, 1]]),
    "everything": ids([50, 51, END, 60], mask=[[0, 0, 0, 0]]),
}  # fmt: skip


@pytest.mark.parametrize("given", HIDDEN_RIGHTLY.values(), ids=HIDDEN_RIGHTLY)
def test_a_mask_with_holes_on_purpose(given, tiny, tokenizer):
    assert "mask-holes" not in rules(tiny, tokenizer, given)
    four = ids([50, END, 51]) | {"attention_mask": torch.zeros(1, 1, 3, 3)}
    assert "mask-holes" not in rules(tiny, tokenizer, four)


# --- no-pad-token -----------------------------------------------------------------------------------------------


def test_no_pad_token(tiny, tokenizer):
    own = copied(tokenizer)
    own.pad_token = None
    ragged = own(["1, 2, 3", "1"])
    assert "different lengths, and the tokenizer has no pad" in rules(tiny, own, ragged)["no-pad-token"].message
    assert "they need padding" in rules(tiny, tokenizer, ragged)["no-pad-token"].message
    assert "asked to pad" in explained(tiny, own, lambda: own(["1, 2", "1"], padding=True))["no-pad-token"]
    note = explained(tiny, own, lambda: own(["1, 2", "1"], return_tensors="pt"))["no-pad-token"]
    assert "different lengths" in note


def test_no_pad_token_is_no_matter_for_one_row_or_equal_rows(tiny, tokenizer):
    own = copied(tokenizer)
    own.pad_token = None
    for texts in (["1, 2, 3"], ["1, 2, 3", "4, 5, 6"]):
        assert not rules(tiny, own, own(texts, return_tensors="pt"))
    assert "no-pad-token" not in rules(tiny, own, own("1, 2, 3")), "a list of ids has another mistake"
    assert "no-pad-token" not in rules(tiny, own, own(["1, 2, 3", "4, 5, 6"]))


# --- ids-past-embedding -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def narrow():
    return tiny_llama(300)


@pytest.mark.parametrize(("row", "wrong"), [([50, 300], 300), ([49000, 50], 49000), ([50, -1], -1)])
def test_ids_past_embedding(row, wrong, narrow, tokenizer):
    finding = rules(narrow, tokenizer, ids(row))["ids-past-embedding"]
    assert finding.severity == "error" and f"id {wrong} " in finding.message and "299" in finding.message
    assert "ids-past-embedding" in explained(narrow, tokenizer, lambda: narrow.generate(**ids(row), max_new_tokens=2))


def test_a_tokenizer_that_has_outgrown_the_model(tokenizer):
    own = copy.deepcopy(tokenizer)
    own.add_tokens(["<new>"])
    finding = rules(tiny_llama(len(tokenizer)), own, ids([50]))["ids-past-embedding"]
    assert finding.severity == "warning" and str(len(own)) in finding.message


def test_ids_up_to_the_last_row_and_a_table_with_rows_to_spare(narrow, tiny, tokenizer):
    assert not rules(narrow, None, ids([0, 299]))
    assert tiny.config.vocab_size > len(tokenizer)
    assert not rules(tiny, tokenizer, ids([0, len(tokenizer) - 1]))


@pytest.mark.parametrize("row", [[50, 49000], [50, -1], [50, 49152]])
def test_the_fix_of_ids_past_embedding_depends_on_whose_ids_they_are(row, tokenizer):
    own = copy.deepcopy(tokenizer)
    own.add_tokens(["<new>"])
    model = tiny_llama(300 if row[1] == 49000 else len(tokenizer))
    finding = rules(model, own, ids(row))["ids-past-embedding"]
    names = {"model": model, "tokenizer": own, "inputs": ids(row), "texts": ["1, 2", "3"], "messages": ASKED}
    assert "resize" in finding.fix
    exec(finding.fix, names)
    assert "ids-past-embedding" not in rules(names["model"], own, names["inputs"])


# --- pad-mismatch -----------------------------------------------------------------------------------------------


def test_pad_mismatch(tiny, tokenizer):
    letter = tokenizer.convert_tokens_to_ids("x")
    other = variant(tiny, pad_token_id=letter)
    finding = rules(other, tokenizer, ids([50, 51], [60, 61]))["pad-mismatch"]
    assert "'x'" in finding.message and f"id {letter}" in finding.message
    assert "pad-mismatch" in rules(tiny, tokenizer, ids([50, 51], [60, 61]), pad_token_id=letter)
    assert "pad-mismatch" in watched(other, tokenizer, ids([50, 51], [60, 61]), [80, END], [80, 81, 82, END])


def test_pad_mismatch_that_fills_nothing(tiny, tokenizer):
    other = variant(tiny, pad_token_id=tokenizer.convert_tokens_to_ids("x"))
    assert "pad-mismatch" not in rules(other, tokenizer, ids([50, 51]))
    assert "pad-mismatch" not in watched(other, tokenizer, ids([50, 51], [60, 61]), [80, END], [81, END])
    assert not rules(tiny, tokenizer, ids([50, 51], [60, 61])), "pad and end token in one"


def test_a_pad_that_decoding_skips_is_no_mismatch(tiny, tokenizer):
    own = copy.deepcopy(tokenizer)
    own.add_tokens(["<|reserved_pad|>"], special_tokens=True)  # special, but in none of the tokenizer's roles
    pad = own.convert_tokens_to_ids("<|reserved_pad|>")
    assert pad not in own.all_special_ids and own.decode([50, pad], skip_special_tokens=True) == own.decode([50])
    assert not rules(variant(tiny, pad_token_id=pad), own, ids([50, 51], [60, 61]))
    assert not rules(variant(tiny, pad_token_id=0), own, ids([50, 51], [60, 61])), "<|endoftext|>"
