"""Rules about rows of different length in one batch (lesson 6)."""

import torch

from pitfalls.inspector.call import Call, name_row
from pitfalls.inspector.rule import Said, rule
from pitfalls.inspector.vocabulary import special_ids

LESSON = "06_padding_side"
PAD_LEFT = """
tokenizer.padding_side = "left"
inputs = tokenizer(texts, padding=True, return_tensors="pt")
output = model.generate(**inputs, max_new_tokens=50)
"""


@rule(
    "error",
    LESSON,
    mistake="""
    inputs = tokenizer(texts, padding=True, padding_side="right", return_tensors="pt")
    model.generate(**inputs, max_new_tokens=5)
    """,
    fix=PAD_LEFT,
    source="https://github.com/huggingface/transformers/issues/30378",
)
def padding_side(call: Call) -> str | Said | None:
    """Pads stand after the prompt, so the model continues the padding and not the text.

    A decoder-only model predicts what follows the last position. Pad on the left, and that is the last word.
    Transformers 5.23 logs it only for a batch, and only where it knows a pad token; one padded row passes in silence.
    """
    for n, pad in enumerate(call.pads):
        if pad.right:
            hides = "; the mask hides it from generate" if call.mask and pad.attended else ""
            return f"{name_row(call, n)} ends in {_count(pad.right)}{hides}: the answer starts after them."
    return None


@rule(
    "error",
    LESSON,
    mistake="""
    inputs = tokenizer(texts, padding=True, padding_side="left", return_tensors="pt")
    model.generate(inputs["input_ids"], max_new_tokens=5)
    """,
    fix="""
    inputs = tokenizer(texts, padding=True, padding_side="left", return_tensors="pt")
    output = model.generate(**inputs, max_new_tokens=50)  # ** passes the attention mask along
    """,
    source="https://github.com/huggingface/transformers/pull/41400",
    explains="size of tensor|shape|expand|broadcast",
)
def attention_mask(call: Call) -> str | Said | None:
    """The model reads the pads as text, because no mask tells it to skip them.

    Without a mask, generate finds the pads itself only where the pad token is known and is not an end token too. A mask
    of ones made by hand says that everything is text. The short rows change, silently, and the longest stays right.
    """
    for n, pad in enumerate(call.pads):
        if pad.attended:
            why = "the mask is one there" if call.mask else "there is no attention mask"
            return f"{name_row(call, n)} has {_count(pad.attended)} that the model reads as text: {why}."
    mask = call.arguments.get("attention_mask")
    fits = call.mask is not None or not call.token_rows or call.arguments.get("past_key_values") is not None
    if isinstance(mask, torch.Tensor) and mask.ndim <= 2 and not fits:
        return f"The mask has shape {tuple(mask.shape)}, and the ids {tuple(call.input_ids.shape)}: they must agree."
    return None


@rule(
    "error",
    LESSON,
    mistake="""
    tokenizer.pad_token = None  # as in many base models
    tokenizer(texts, padding=True, return_tensors="pt")
    """,
    fix="""
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    inputs = tokenizer(texts, padding=True, padding_side="left", return_tensors="pt")
    """,
    source="https://github.com/huggingface/transformers/issues/22312",
    explains="padding token|pad_token|Unable to create tensor|expected sequence of length|'list' object",
    encoders=True,
)
def no_pad_token(call: Call) -> str | Said | None:
    """Texts of different length can't be put into one batch, because the tokenizer has no pad token.

    Many base models were trained without padding. Any token will do where the mask hides it; the end token is usual.
    Without `padding=True` the tokenizer returns lists, or can't make a tensor of them.
    """
    asked = ("does not have a padding token", "without pad_token cannot do batching")  # the second is a pipeline's
    if isinstance(call.error, ValueError) and any(words in str(call.error) for words in asked):
        return "The tokenizer was asked to pad, and has no pad token."
    ragged = isinstance(call.error, ValueError) and "Unable to create tensor" in str(call.error)
    given = call.given_ids
    if isinstance(given, list) and given and all(isinstance(row, list) for row in given):
        ragged |= len({len(row) for row in given}) > 1
    if not ragged:
        return None
    missing = call.tokenizer is not None and call.tokenizer.pad_token is None
    return "The texts have different lengths" + (
        ", and the tokenizer has no pad token." if missing else ": they need padding."
    )


@rule(
    "error",
    LESSON,
    mistake="""
    tokenizer.add_special_tokens({"pad_token": "<pad>"})
    inputs = tokenizer(texts, padding=True, padding_side="left", return_tensors="pt")
    model.generate(**inputs, max_new_tokens=5)
    """,
    fix="model.resize_token_embeddings(len(tokenizer))",
    source="https://github.com/meta-llama/llama-cookbook/issues/189",
    explains="index out of range|device-side assert",
    encoders=True,
)
def ids_past_embedding(call: Call) -> str | Said | None:
    """A token id has no row in the model's embedding table.

    It happens when a token is added to the tokenizer and the model is not resized, or when tokenizer and model don't
    belong together. On CPU it raises `index out of range in self`, on a GPU it ends in a device-side assert.
    """
    rows = call.embeddings
    if not rows:
        return None
    if call.input_ids is not None and call.input_ids.numel():
        low, high = call.input_ids.min().item(), call.input_ids.max().item()
        if low < 0 or high >= rows:
            wrong = high if high >= rows else low
            return f"Token id {wrong} has no row in the model's embedding table: it ends at {rows - 1}."
    known = len(call.tokenizer) if call.tokenizer is not None else 0
    if known > rows:
        return Said(
            f"The tokenizer knows {known} tokens, the model {rows}: an id past {rows - 1} will raise.", "warning"
        )
    return None


@rule(
    "warning",
    LESSON,
    mistake="""
    model.generation_config.pad_token_id = tokenizer.convert_tokens_to_ids("x")
    texts = ["What is the capital of France?", "A list of colors: red, blue"]  # the first ends at once
    model.generate(**tokenizer(texts, padding=True, padding_side="left", return_tensors="pt"), max_new_tokens=5)
    """,
    fix="model.generation_config.pad_token_id = tokenizer.pad_token_id",
    source="https://github.com/huggingface/transformers/issues/24166",
)
def pad_mismatch(call: Call) -> str | Said | None:
    """Rows that end early are filled up with a token that the tokenizer does not take for special.

    The model's generation_config names one pad id, the tokenizer another. Decoding with `skip_special_tokens=True`
    then leaves the model's pads in the text.
    """
    pad = call.get("pad_token_id")
    if call.tokenizer is None or not isinstance(pad, int) or len(call.token_rows) < 2 or pad < 0:
        return None
    added = getattr(call.tokenizer, "added_tokens_decoder", {}).get(pad)  # special ones without a role too
    if pad in special_ids(call.tokenizer) or pad in call.end_ids or getattr(added, "special", False):
        return None
    if call.made and not any(pad in row[call.width :] for row in call.output_ids.tolist()):
        return None
    return f"Short answers are filled up with {call.tokenizer.decode([pad])!r} (id {pad}), which stays in the text."


def _count(pads: int) -> str:
    return f"{pads} pad token{'s' * (pads > 1)}"
