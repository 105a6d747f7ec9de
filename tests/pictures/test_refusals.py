"""What a picture does not mean it refuses, and says what to pass instead."""

import pytest
import torch

from pitfalls import pictures
from tests.pictures.reading import call_of

LOGITS = torch.randn(300)
CHAT = [{"role": "user", "content": "Hi"}]

WRONG_LOGITS = {
    "of every position": (torch.randn(1, 5, 300), r"logits\[0, -1\]`, and not a tensor .* shape \(1, 5, 300\)"),
    "of a batch": (torch.randn(2, 300), r"one position, of shape \(vocabulary,\)"),
    "of a batch of one": (torch.randn(1, 300), r"shape \(1, 300\)"),
    "none": (torch.tensor([]), r"shape \(0,\)"),
    "a number": (torch.tensor(1.0), r"shape \(\)"),
    "token ids": (torch.arange(300), "are token ids"),
    "probabilities": (LOGITS.softmax(-1), "probabilities already"),
    "in half precision": (LOGITS.softmax(-1).bfloat16(), "probabilities already"),
    "not a number": (LOGITS * torch.nan, "not numbers"),
    "all cut": (torch.full((300,), -torch.inf), "all are infinite"),
    "one panel of many": ({"good": LOGITS, "bad": torch.randn(5, 300)}, r"shape \(5, 300\)"),
    "what a model returns": ({"logits": torch.randn(1, 5, 300), "past_key_values": None}, r"logits\[0, -1\]"),
    "two vocabularies": ({"one": LOGITS, "other": LOGITS[:99]}, "same vocabulary"),
    "no panels": ({}, "one or more"),
    "a list": (LOGITS.tolist(), "and not a list"),
    "a text": ("Hi", "and not a str"),
    "nothing": (None, "and not a NoneType"),
}


@pytest.mark.parametrize("name", WRONG_LOGITS)
def test_next_token(name, tokenizer):
    source, message = WRONG_LOGITS[name]
    with pytest.raises((TypeError, ValueError), match=message):
        pictures.next_token(source, tokenizer)


WRONG_IDS = {
    "a batch": (torch.ones(2, 3, dtype=torch.long), r"shape \(2, 3\)\. Take one row of a batch, as in `ids\[0\]`"),
    "a batch of one": ([[1, 2, 3]], r"shape \(1, 3\)"),
    "rows of different length": ([[1, 2], [3]], "and not a list"),
    "one id": (7, r"shape \(\)"),
    "logits": (LOGITS, "whole numbers"),
    "labels": ([50, -100], "its least is -100"),
    "a mask": (torch.tensor([True, False]), "whole numbers"),
    "a text": ("Hi", r"`tokenizer\(text\)\.input_ids`, and not a str"),
    "what a tokenizer returns": ({"input_ids": [1, 2]}, "and not a dict"),
    "nothing": (None, "and not a NoneType"),
}


@pytest.mark.parametrize("name", WRONG_IDS)
def test_token_strip(name, tokenizer):
    source, message = WRONG_IDS[name]
    with pytest.raises((TypeError, ValueError), match=message):
        pictures.token_strip(source, tokenizer)


IDS = torch.ones(2, 3, dtype=torch.long)
WRONG_BATCHES = {
    "no mask": ({"input_ids": IDS}, "This one has no attention_mask"),
    "ids alone": (IDS, "where their padding is"),
    "texts": (["a", "b"], r'padding=True, return_tensors="pt"'),
    "lists": ({"input_ids": [[1]], "attention_mask": [[1]]}, "Its input_ids are a list"),
    "another mask": ({"input_ids": IDS, "attention_mask": IDS[:1]}, r"\(2, 3\) and \(1, 3\)"),
    "one row": ({"input_ids": IDS[0], "attention_mask": IDS[0]}, r"\(3,\) and \(3,\)"),
    "no rows": ({"input_ids": IDS[:0], "attention_mask": IDS[:0]}, r"\(0, 3\)"),
    "a mask to add": ({"input_ids": IDS, "attention_mask": IDS * -1e9}, "1 for a token and 0 for padding"),
}


@pytest.mark.parametrize("name", WRONG_BATCHES)
def test_padding(name, tokenizer):
    inputs, message = WRONG_BATCHES[name]
    with pytest.raises((TypeError, ValueError), match=message):
        pictures.padding(inputs, tokenizer)


@pytest.mark.parametrize("messages", ["Hi", [], {"role": "user", "content": "Hi"}, ["Hi"], [CHAT], [{"role": "user"}],
                                      [*CHAT, {"role": "assistant", "content": None}], None])  # fmt: skip
def test_chat(messages, tokenizer):
    with pytest.raises(ValueError, match="list of messages, each a dict with the texts 'role' and 'content'"):
        pictures.chat(tokenizer, messages)


def test_chat_without_a_template(tokenizer, monkeypatch):
    monkeypatch.setattr(tokenizer, "chat_template", None)
    with pytest.raises(ValueError, match="no chat template: most likely it belongs to a base model"):
        pictures.chat(tokenizer, CHAT)


@pytest.mark.parametrize(
    ("sizes", "message"),
    [({}, "bytes by the name of a format"), ([5], "and not a list"), ({"fp32": 0}, "more than 0 bytes; 'fp32' has 0"),
     ({"a": 5, "b": -1}, "'b' has -1"), ({"a": float("nan")}, "'a' has nan"),
     ({"a": torch.ones(3)}, "'a' has a tensor of float32")],
)  # fmt: skip
def test_memory(sizes, message):
    with pytest.raises(ValueError, match=message):
        pictures.memory(sizes)


@pytest.mark.parametrize(
    ("draw", "message"),
    [(lambda call, t: pictures.token_strip(call, t, row=1), "There is no row 1: this call has 1, counted from 0"),
     (lambda call, t: pictures.generation(call, row=-1), "There is no row -1"),
     (lambda call, t: pictures.loop(call, t, 0, row=2), "There is no row 2"),
     (lambda call, t: pictures.generation(call, first=2), "There is no step 2: this row has 2, counted from 0"),
     (lambda call, t: pictures.generation(call, first=-1), "There is no step -1"),
     (lambda call, t: pictures.loop(call, t, 2), "There is no step 2"),
     (lambda call, t: pictures.loop(call, t, -1), "There is no step -1"),
     (lambda call, t: pictures.generation(call, steps=0), "`steps` is 1 or more, and not 0"),
     (lambda call, t: pictures.generation(call, top=0), "`top` is 1 or more"),
     (lambda call, t: pictures.loop(call, t, 0, top=-1), "`top` is 1 or more"),
     (lambda call, t: pictures.next_token(call.steps[0], t, top=0), "`top` is 1 or more"),
     (lambda call, t: pictures.next_token(call, t), r"such as `call\.steps\[0\]`, .* and not a Call"),
     (lambda call, t: pictures.next_token(call.steps, t), "and not a list"),
     (lambda call, t: pictures.generation(torch.ones(1, 3)), r"takes a call from `pitfalls\.record\(.* not a tensor"),
     (lambda call, t: pictures.loop(call.steps, t, 0), r"pitfalls\.record\(.* not a list")],
)  # fmt: skip
def test_what_a_call_does_not_have(draw, message, tokenizer, two_steps):
    with pytest.raises((TypeError, ValueError), match=message):
        draw(two_steps, tokenizer)


@pytest.mark.parametrize("draw", [lambda call, _: pictures.generation(call), lambda call, t: pictures.loop(call, t, 0)])
def test_no_recorded_steps(draw, tokenizer):
    with pytest.raises(ValueError, match="no recorded steps: beam search and assisted decoding leave none"):
        draw(call_of(tokenizer, [50], [[60]]), tokenizer)
