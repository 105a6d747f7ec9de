"""Rules about where the prompt ends as text, and about what is kept of the output (lessons 2 to 4)."""

import re
from typing import Any

from pitfalls.inspector.call import Call, name_row
from pitfalls.inspector.rule import GENERATE, Said, rule
from pitfalls.inspector.vocabulary import special_ids

ANSWER = f"""
{GENERATE}
answer = tokenizer.decode(output[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
"""


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
            return f"{name_row(call, n)} ends in a space, and the next word has its own: another one is written."
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
    """The whole output of a chat is decoded, so the answer has the prompt in front of it.

    A decoder-only model returns prompt and answer as one sequence. Cut it by tokens, before decoding: cutting the text
    by the length of the prompt goes wrong wherever decoding changed a character. Seen by `watch`, for chats only: who
    completes a text mostly wants the beginning too.
    """
    if call.decoded is None or not any(call.templated):
        return None
    for row in call.output_ids.tolist():
        if call.decoded.ids[: call.width + 1] == row[: call.width + 1] and len(row) > call.width:
            return f"The decoded text begins with the prompt: its {call.width} tokens are part of what is kept."
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
    fix="""
    output = model.generate(**inputs, max_new_tokens=50)
    answer = tokenizer.decode(output[0], skip_special_tokens=True)  # with an encoder, the output is the answer alone
    """,
    source="https://huggingface.co/docs/transformers/main/en/model_doc/t5",
    encoders=True,
)
def encoder_decoder(call: Call) -> str | Said | None:
    """The prompt's length is cut off the output of a model with an encoder, which has no prompt in it.

    T5, BART and Whisper read the prompt in the encoder, and what `generate` returns is the answer alone: whoever cuts
    it as for a decoder-only model loses the beginning of the answer, or all of it. Seen by `watch`.
    """
    return None


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
    """The decoded answer keeps its special tokens, such as the end token.

    `decode` keeps them unless told otherwise, and "Paris</s>" is not equal to "Paris". To keep them on purpose, say
    `skip_special_tokens=False`. Seen by `watch`.
    """
    if call.decoded is None or call.decoded.skip_special_tokens is not None:
        return None
    special = special_ids(call.tokenizer) | set(call.end_ids)
    for row in call.output_ids[:, call.width :].tolist():
        new = call.decoded.ids[-len(row) :] if row else []
        kept = [token for token in new if token in special]
        if kept and new == row:
            return f"The decoded answer holds {call.tokenizer.decode(kept[:1])!r}."
    return None


def _is_space(tokenizer: Any, token_id: int) -> bool:
    token = tokenizer.convert_ids_to_tokens(token_id)
    return isinstance(token, str) and token != "" and not token.strip(" ▁Ġ")
