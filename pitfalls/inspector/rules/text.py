"""Rules about where the prompt ends as text, and about what is kept of the output (lessons 2 to 4)."""

import re
from typing import Any

from transformers import TextIteratorStreamer, TextStreamer

from pitfalls.inspector.call import Call, name_row
from pitfalls.inspector.cuts import wrong_cut
from pitfalls.inspector.rule import GENERATE, Said, rule
from pitfalls.language import _, ngettext

ANSWER = f"""
{GENERATE}
answer = tokenizer.decode(output[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
"""
ANSWERS = f"""
{GENERATE}
answers = tokenizer.batch_decode(output[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
"""
ENCODED = f"""
{GENERATE}
answer = tokenizer.decode(output[0], skip_special_tokens=True)  # with an encoder, the output is the answer alone
"""
TOOLS = r"(?i)tool|function|python_tag|channel"  # in the names of special tokens that part an answer from a call
THOUGHTS_END = r"(?i)^[<\[|]*/(?:think|thinking|thought|reasoning)\b"


@rule(
    "warning",
    "02_tokenizing",
    mistake='model.generate(**tokenizer("The dog chased the ", return_tensors="pt"), max_new_tokens=5)',
    fix='inputs = tokenizer("The capital of France is", return_tensors="pt")  # no space at the end\n' + GENERATE,
    source="https://github.com/allenai/allennlp/issues/4484",
)
def trailing_space(call: Call) -> str | Said | None:
    """The prompt ends in a space, which belongs to the first token of the answer.

    Most vocabularies keep the space with the word behind it, as " Paris". After a lone space the model must begin with
    a word that has none, which it rarely saw: the first token is another one, or a second space.
    """
    for n, ids in enumerate(call.prompts if call.tokenizer is not None else []):
        if not ids or not _is_space(call.tokenizer, ids[-1]) or call.chat.header.endswith(" "):
            continue
        tail = ids[-8:]
        text = call.tokenizer.decode(tail)
        if re.search(r"\d\W*$", text):  # a number may follow, whose digits are tokens without a space
            continue
        if call.tokenizer(text + "word", add_special_tokens=False)["input_ids"][: len(tail)] != tail:
            return _(
                "{row} ends in a space, and the next word has its own: another one is written.", row=name_row(call, n)
            )
    return None


@rule(
    "warning",
    "04_length",
    mistake="""
    inputs = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=True, return_tensors="pt")
    output = model.generate(**inputs, max_new_tokens=8)
    answer = tokenizer.decode(output[0], skip_special_tokens=True)
    """,
    fix=ANSWER,
    source="https://github.com/huggingface/transformers/issues/17117",
)
def prompt_echo(call: Call) -> str | Said | None:
    """The whole output of a chat is decoded or streamed, so the answer has the prompt in front of it.

    A decoder-only model returns prompt and answer as one sequence. Cut it by tokens, before decoding: cutting the text
    by the length of the prompt goes wrong wherever decoding changed a character. A streamer does it where it is made
    with `skip_prompt=True`. Seen by `watch`, for chats only: who completes a text mostly wants the beginning too. It is
    silent where the answer itself is decoded as well, or where `skip_special_tokens=False` is said: then the whole is
    for a log. A text with its markers may still be cut there, so that is a note.
    """
    if call.has_encoder or call.answer_read or not any(call.templated):
        return None
    streamer, piece = _streamer(call), call.decoded
    if streamer is not None and not streamer.skip_prompt:
        only_shown = "note" if type(streamer) is TextStreamer else None  # it prints, and nobody reads the text
        message = ngettext(
            "The streamer passes on the prompt too: {n} token comes before the answer.",
            "The streamer passes on the prompt too: {n} tokens come before the answer.",
            call.width,
        )
        return Said(message, only_shown, _stream(streamer))
    if piece is None or piece.skip_special_tokens is False:
        return None
    if all(token in call.special_ids for ids in call.prompts for token in ids):  # a BOS to begin from nothing
        return None
    for n, row in enumerate(call.output_ids.tolist()):
        whole = piece.ids[: call.width + 1] == row[: call.width + 1]
        if piece.row == n and piece.first:  # without a BOS, or without the pads
            whole = piece.first <= call.pads[call.prompt_of(n)].left + 1
            whole &= piece.first + len(piece.ids) > call.width
        if whole and len(row) > call.width:
            message = ngettext(
                "The decoded text begins with the prompt, {n} token: cut it off before decoding.",
                "The decoded text begins with the prompt, {n} tokens: cut them off before decoding.",
                call.width,
            )
            fix = ANSWERS if len(call.rows) > 1 else ANSWER
            return Said(message, None if piece.skip_special_tokens else "note", fix)
    return None


@rule(
    "warning",
    "04_length",
    mistake="""
    text = "Q: What is the capital of France?\\nA:"
    inputs = tokenizer(text, return_tensors="pt")
    output = model.generate(**inputs, max_new_tokens=5)
    answer = tokenizer.decode(output[0, len(text) :])
    """,
    fix=ANSWER,
    source="https://huggingface.co/docs/transformers/llm_tutorial",
)
def answer_cut(call: Call) -> str | Said | None:
    """The answer is cut out of the output at the wrong place.

    A row of the output is the prompt as it was given, pads included, and the new tokens: the answer begins at
    `inputs["input_ids"].shape[1]`, in every row of a batch. The length of the text counts characters, the length of one
    row alone leaves out its pads, and the length of what the tokenizer returned is the number of its entries. Seen by
    `watch`, which speaks only where the place shows what was counted, or where nothing is left.
    """
    said = wrong_cut(call)
    return said and said._replace(fix=ANSWERS if len(call.rows) > 1 else ANSWER)


@rule(
    "warning",
    "04_length",
    mistake="""
    tokenizer.add_tokens(["<tool_call>"], special_tokens=True)
    model.resize_token_embeddings(len(tokenizer))
    calls_a_tool = {(len(tokenizer) - 1,): 50.0}  # as a model does that was trained for it
    output = model.generate(**inputs, max_new_tokens=5, sequence_bias=calls_a_tool)
    answer = tokenizer.decode(output[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
    """,
    fix=f"""
    {GENERATE}
    answer = tokenizer.decode(output[0, inputs["input_ids"].shape[1] :], skip_special_tokens=False)
    """,
    source="https://github.com/mistralai/mistral-inference/issues/162",
)
def lost_marker(call: Call) -> str | Said | None:
    """A marker that gives the answer its meaning is dropped with `skip_special_tokens=True`.

    In some models the marker of a tool call, of a channel, or of the end of the thoughts is a special token, as
    `<|python_tag|>` of Llama 3.1. Without it a call can't be told from text. Keep the special tokens, and take away the
    end token yourself. Seen by `watch`.
    """
    piece = call.decoded
    if piece is None or not piece.skip_special_tokens or call.has_encoder or not piece.ids:
        return None
    new = piece.ids[max(0, call.start - (piece.first or 0)) :]
    special = call.special_ids
    for place, token in enumerate(new):
        if token not in special or token in {*call.end_ids, *call.pad_ids, call.chat.end_id}:
            continue
        name = str(call.tokenizer.convert_ids_to_tokens(token))
        if re.search(TOOLS, name):
            return _(
                "{token!r} is dropped from the decoded answer, which tells what the text behind it is.", token=name
            )
        around = [set(new[:place]) - special, set(new[place:]) - special]
        if re.search(THOUGHTS_END, name) and all(around):
            return _(
                "{token!r} is dropped from the decoded answer: thoughts and answer can't be told apart any more.",
                token=name,
            )
    return None


@rule(
    "warning",
    "03_generating",
    mistake="""
    from transformers import T5Config, T5ForConditionalGeneration
    config = T5Config(vocab_size=50_000, d_model=8, d_ff=8, num_layers=1, decoder_start_token_id=0)
    model = T5ForConditionalGeneration(config).eval()
    output = model.generate(**inputs, max_new_tokens=6)
    answer = tokenizer.decode(output[0, inputs["input_ids"].shape[1] :])
    """,
    fix=ENCODED,
    source="https://huggingface.co/docs/transformers/main/en/model_doc/t5",
    encoders=True,
)
def encoder_decoder(call: Call) -> str | Said | None:
    """The prompt's length is cut off the output of a model with an encoder, which has no prompt in it.

    T5, BART and Whisper read the prompt in the encoder, and what `generate` returns is the answer alone: whoever cuts
    it as for a decoder-only model loses the beginning of the answer, or all of it. Seen by `watch`.
    """
    piece = call.decoded
    if piece is None or not call.has_encoder or piece.first is None or piece.first <= call.start:
        return None
    written = call.output_ids.shape[1]
    if piece.ids and piece.first != call.width:
        return None
    if not piece.ids and not (piece.first == written <= call.width):
        return None
    if piece.ids:
        return _(
            "The prompt's {prompt} tokens are cut off the output, and it has no prompt in it: of its {written} tokens "
            "the first {lost} are lost.",
            prompt=call.width,
            written=written,
            lost=piece.first,
        )
    return _(
        "The prompt's {prompt} tokens are cut off the output, and it has no prompt in it: of its {written} tokens all "
        "of them are lost.",
        prompt=call.width,
        written=written,
    )


@rule(
    "note",
    "03_generating",
    mistake="""
    inputs = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=True, return_tensors="pt")
    output = model.generate(**inputs, max_new_tokens=8)
    answer = tokenizer.decode(output[0, inputs["input_ids"].shape[1] :])
    """,
    fix=ANSWER,
    source="https://github.com/EuroEval/EuroEval/pull/1006",
)
def special_tokens_kept(call: Call) -> str | Said | None:
    """The decoded or streamed answer keeps its special tokens, such as the end token.

    `decode` and a streamer keep them unless told otherwise, and "Paris</s>" is not equal to "Paris". To keep them on
    purpose, say `skip_special_tokens=False`. Seen by `watch`.
    """
    streamer, piece = _streamer(call), call.decoded
    if not call.made or call.tokenizer is None or call.has_encoder:
        return None
    if streamer is not None and "skip_special_tokens" not in streamer.decode_kwargs:
        kept = [token for row in call.rows for token in row.new_ids if token in call.special_ids]
        if kept:
            token = call.tokenizer.decode(kept[:1])
            return Said(_("The streamer passes on {token!r}.", token=token), fix=_stream(streamer))
    if piece is None or piece.skip_special_tokens is not None:
        return None
    for row in call.output_ids[:, call.start :].tolist():
        new = piece.ids[-len(row) :] if row else []
        kept = [token for token in new if token in call.special_ids] if new == row else []
        if kept:
            token, fix = call.tokenizer.decode(kept[:1]), ANSWERS if len(call.rows) > 1 else ANSWER
            return Said(_("The decoded answer holds {token!r}.", token=token), fix=fix)
    return None


def _streamer(call: Call) -> TextStreamer | None:
    """The streamer of the call, where it is one of transformers, or a kind of those that cuts nothing by itself."""
    given = call.arguments.get("streamer")
    return given if isinstance(given, TextStreamer) and type(given).put is TextStreamer.put else None


def _stream(streamer: TextStreamer) -> str:
    name = "TextIteratorStreamer" if isinstance(streamer, TextIteratorStreamer) else "TextStreamer"
    return f"""
from transformers import {name}
streamer = {name}(tokenizer, skip_prompt=True, skip_special_tokens=True)
output = model.generate(**inputs, max_new_tokens=50, streamer=streamer)  # in its thread, where you have one
"""


def _is_space(tokenizer: Any, token_id: int) -> bool:
    token = tokenizer.convert_ids_to_tokens(token_id)
    return isinstance(token, str) and token != "" and not token.strip(" ▁Ġ")
