"""Rules about rows of different length in one batch (lesson 6)."""

import torch

from pitfalls.inspector.call import Call, name_row
from pitfalls.inspector.rule import Said, rule
from pitfalls.inspector.vocabulary import role_id
from pitfalls.language import _, ngettext

LESSON = "06_padding_side"
PAD_TOKEN = "tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token\n"
PAD_LEFT = """
tokenizer.padding_side = "left"
inputs = tokenizer(texts, padding=True, return_tensors="pt")
output = model.generate(**inputs, max_new_tokens=50)  # ** passes the attention mask along
"""
RESIZE = "model.resize_token_embeddings(len(tokenizer))\n"
PAD_CHATS = """
tokenizer.padding_side = "left"
inputs = tokenizer.apply_chat_template(
    messages, add_generation_prompt=True, padding=True, return_dict=True, return_tensors="pt"
)
output = model.generate(**inputs, max_new_tokens=50)  # ** passes the attention mask along
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
            return Said(_ends_in_pads(call, n), fix=_padded_left(call))
    return None


@rule(
    "error",
    LESSON,
    mistake="""
    inputs = tokenizer(texts, padding=True, padding_side="left", return_tensors="pt")
    model.generate(inputs["input_ids"], max_new_tokens=5)
    """,
    fix=PAD_LEFT,
    source="https://github.com/huggingface/transformers/pull/41400",
    explains="size of tensor|shape|expand|broadcast|tuple index|must be 2D",
)
def attention_mask(call: Call) -> str | Said | None:
    """The model reads the pads as text, because no mask tells it to skip them.

    Without a mask, generate finds the pads itself only where the pad token is known and is not an end token too. A mask
    of ones made by hand says that everything is text. The short rows change, silently, and the longest stays right.
    """
    for n, pad in enumerate(call.pads):
        if pad.attended:
            return Said(_reads_pads(call, n), fix=_padded_left(call))
    mask = call.arguments.get("attention_mask")
    if isinstance(mask, (list, tuple)):
        return _("The mask is a {type} and must be a tensor, of the shape of the ids.", type=type(mask).__name__)
    fits = call.mask is not None or not call.token_rows or call.arguments.get("past_key_values") is not None
    if isinstance(mask, torch.Tensor) and mask.ndim <= 3 and not fits:
        return _(
            "The mask has shape {mask}, and the ids {ids}: they must agree.",
            mask=str(tuple(mask.shape)),
            ids=str(tuple(call.input_ids.shape)),
        )
    return None


@rule(
    "warning",
    LESSON,
    mistake="""
    chat = [*messages, {"role": "assistant", "content": "Paris."}, {"role": "user", "content": "And of Spain?"}]
    tokenizer.pad_token = tokenizer.eos_token  # which ends each turn of this chat
    inputs = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_dict=True, return_tensors="pt")
    inputs["attention_mask"] = (inputs["input_ids"] != tokenizer.pad_token_id).long()
    model.generate(**inputs, max_new_tokens=5)
    """,
    fix=PAD_CHATS,
    source="https://github.com/microsoft/onnxruntime-genai/pull/1694",
)
def mask_holes(call: Call) -> str | Said | None:
    """The mask hides tokens inside the text, because they are the same token as the pad.

    Where the end token is the pad token too, a mask made as `ids != pad` hides the ends of the turns with the pads, and
    the model reads all turns as one. Take the mask that the tokenizer returns: it knows which tokens it added.
    """
    inferred = call.inferred_pad
    made_by_hand = call.mask is not None and any(0 in mask for mask in call.mask)
    if not made_by_hand and inferred is None:
        return None
    roles = [role_id(call.tokenizer, role) for role in ("bos", "eos", "unk")]
    spoken = {*call.end_ids, *roles, call.chat.end_id, *call.chat.open_ids} & (call.pad_ids | {inferred})
    for n, (row, pad) in enumerate(zip(call.token_rows, call.pads, strict=True)):
        seen = call.mask[n] if call.mask else [token != inferred for token in row]
        if any(shown for token, shown in zip(row, seen, strict=True) if token in spoken):
            continue  # the mask tells the pads from the same token in the text
        first, last = pad.left, len(row) - pad.right - 1
        holes = [place for place in range(first + 1, last) if row[place] in spoken and not seen[place]]
        alone = [place for place in holes if seen[place - 1] and seen[place + 1]]
        if alone:
            hidden = row[alone[0]]
            message = ngettext(
                "{row} has {token} once within its text, and the mask hides it like a pad.",
                "{row} has {token} {n} times within its text, and the mask hides it like a pad.",
                len(alone),
                row=name_row(call, n),
                token=repr(call.tokenizer.decode([hidden])) if call.tokenizer else _("'token {id}'", id=hidden),
            )
            return Said(message, fix=PAD_CHATS if any(call.templated) else PAD_LEFT)
    return None


@rule(
    "error",
    LESSON,
    mistake="""
    tokenizer.pad_token = None  # as in many base models
    tokenizer(texts, padding=True, return_tensors="pt")
    """,
    fix=PAD_TOKEN + PAD_LEFT.lstrip(),
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
        return _("The tokenizer was asked to pad, and has no pad token.")
    ragged = isinstance(call.error, ValueError) and "Unable to create tensor" in str(call.error)
    given = call.given_ids
    if isinstance(given, list) and given and all(isinstance(row, list) for row in given):
        ragged |= len({len(row) for row in given}) > 1
    if not ragged:
        return None
    if call.tokenizer is not None and call.tokenizer.pad_token is None:
        return _("The texts have different lengths, and the tokenizer has no pad token.")
    return Said(_("The texts have different lengths: they need padding."), fix=_padded_left(call))


@rule(
    "error",
    LESSON,
    mistake="""
    tokenizer.add_special_tokens({"pad_token": "<pad>"})
    inputs = tokenizer(texts, padding=True, padding_side="left", return_tensors="pt")
    model.generate(**inputs, max_new_tokens=5)
    """,
    fix=RESIZE,
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
    known = len(call.tokenizer) if call.tokenizer is not None else None
    if call.input_ids is not None and call.input_ids.numel():
        low, high = call.input_ids.min().item(), call.input_ids.max().item()
        if low < 0 or high >= rows:
            wrong = high if high >= rows else low
            message = _(
                "Token id {id} has no row in the model's embedding table: it ends at {last}.", id=wrong, last=rows - 1
            )
            if wrong >= rows and (known is None or wrong < known):
                return message
            return Said(message, fix=RESIZE * bool(known and known > rows) + _padded_left(call))  # other ids, then
    if known is not None and known > rows and call.input_ids is not None:
        message = _(
            "The tokenizer knows {tokens} tokens, the model {rows}: an id past {last} will raise.",
            tokens=known,
            rows=rows,
            last=rows - 1,
        )
        return Said(message, "warning")
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
    if pad in call.special_ids or pad in call.end_ids:
        return None
    if call.made and not any(pad in row[call.width :] for row in call.output_ids.tolist()):
        return None
    return _(
        "Short answers are filled up with {token!r} (id {id}), which stays in the text.",
        token=call.tokenizer.decode([pad]),
        id=pad,
    )


def _padded_left(call: Call) -> str:
    """Code that pads on the left, a chat as a chat."""
    pad = getattr(call.tokenizer, "pad_token", None) is None
    return PAD_TOKEN * pad + (PAD_CHATS if any(call.templated) else PAD_LEFT).lstrip()


def _ends_in_pads(call: Call, n: int) -> str:
    row, pad = name_row(call, n), call.pads[n]
    if call.mask and pad.attended:
        return ngettext(
            "{row} ends in {n} pad token; the mask hides it from generate: the answer starts after them.",
            "{row} ends in {n} pad tokens; the mask hides it from generate: the answer starts after them.",
            pad.right,
            row=row,
        )
    return ngettext(
        "{row} ends in {n} pad token: the answer starts after them.",
        "{row} ends in {n} pad tokens: the answer starts after them.",
        pad.right,
        row=row,
    )


def _reads_pads(call: Call, n: int) -> str:
    row, pad = name_row(call, n), call.pads[n]
    if call.mask:
        return ngettext(
            "{row} has {n} pad token that the model reads as text: the mask is one there.",
            "{row} has {n} pad tokens that the model reads as text: the mask is one there.",
            pad.attended,
            row=row,
        )
    return ngettext(
        "{row} has {n} pad token that the model reads as text: there is no attention mask.",
        "{row} has {n} pad tokens that the model reads as text: there is no attention mask.",
        pad.attended,
        row=row,
    )
