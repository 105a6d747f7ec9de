"""What a tokenizer's chat template writes around a message, found by rendering a small chat with it.

chat = chat_format(tokenizer)
chat.header             # "<|im_start|>assistant\\n": what `add_generation_prompt=True` adds
chat.user_open          # "<|im_start|>user\\n"
chat.answer_close       # "<|im_end|>\\n"
"""

import os
import re
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

from pitfalls.inspector.vocabulary import role_id, token_id

QUESTION, ANSWER, NEXT = "QuestionSentinel", "AnswerSentinel", "NextSentinel"


@dataclass(frozen=True)
class ChatFormat:
    """Texts and ids of a chat template; all empty where the tokenizer has none, or one that can't be rendered."""

    template: str = ""  # the Jinja source
    header: str = ""  # opens the assistant's turn; empty where the template writes nothing there (Mistral's)
    answer_open: str = ""  # what all answers begin with: the header without the `<think>` that only a new one gets
    user_open: str = ""  # opens a user's turn, without a BOS before it
    user_close: str = ""
    answer_close: str = ""  # ends the assistant's turn
    ignores_header: bool = False  # has a header, but `add_generation_prompt=True` does not write it
    starts_with_bos: bool = False  # the rendered text does
    header_ids: list[int] = field(default_factory=list)
    close_ids: list[int] = field(default_factory=list)  # a user's end and the header; empty where it ends in plain text
    open_ids: set[int] = field(default_factory=set)  # special ids in `user_open`; empty where it is plain text
    end_id: int | None = None  # the special id that ends the assistant's turn
    adds_bos: bool = False  # calling the tokenizer on a text does
    adds_eos: bool = False  # and puts the end token behind it
    special: dict[str, int] = field(default_factory=dict)  # its special tokens
    marks: dict[str, int] = field(default_factory=dict)  # the tokens among its markers, BOS and EOS: not `<think>`

    def __bool__(self) -> bool:
        return bool(self.user_open.strip() or self.header.strip())


_known: WeakKeyDictionary[Any, Any] = WeakKeyDictionary()


def chat_format(tokenizer: Any) -> ChatFormat:
    """The format of `tokenizer`; kept, as rendering takes milliseconds, until its template or special tokens change."""
    template = getattr(tokenizer, "chat_template", None)
    state = (
        str(template),
        str(getattr(tokenizer, "special_tokens_map", "")),
        getattr(tokenizer, "add_bos_token", None),
        getattr(tokenizer, "add_eos_token", None),
        len(tokenizer),
    )
    kept = _known.get(tokenizer)
    if kept is None or kept[0] != state:
        backend: Any = getattr(tokenizer, "backend_tokenizer", None)
        truncation = getattr(backend, "truncation", None)  # as its latest caller set it: a rule asks for that
        kept = _known[tokenizer] = (state, _look(tokenizer, template))
        if truncation:
            backend.enable_truncation(**truncation)
    return kept[1]


def _look(tokenizer: Any, template: Any) -> ChatFormat:
    bos_id = role_id(tokenizer, "bos")
    eos_id, probe = role_id(tokenizer, "eos"), tokenizer("x")["input_ids"]
    adds_bos, adds_eos = bos_id is not None and probe[:1] == [bos_id], eos_id is not None and probe[-1:] == [eos_id]
    ids = {token: token_id(tokenizer, token) for token in tokenizer.all_special_tokens}
    special = {token: found for token, found in ids.items() if found is not None}
    if not template:
        return ChatFormat(adds_bos=adds_bos, adds_eos=adds_eos, special=special)
    chat = [
        {"role": "user", "content": QUESTION},
        {"role": "assistant", "content": ANSWER},
        {"role": "user", "content": NEXT},
    ]
    asked = _render(tokenizer, chat[:1])
    headed = _render(tokenizer, chat[:1], add_generation_prompt=True)
    answered = _render(tokenizer, chat[:2])
    again = _render(tokenizer, chat)
    asked, answered = _unended(tokenizer, asked, headed), _unended(tokenizer, answered, again)
    _, _, user_close = asked.partition(QUESTION)
    _, _, answer_close = answered.partition(ANSWER)
    _, _, user_open = again.rpartition(NEXT)[0].partition(ANSWER)
    user_open = user_open.removeprefix(answer_close)
    header, ignores = headed.removeprefix(asked) if headed.startswith(asked) else "", False
    between = answered.partition(QUESTION)[2].removeprefix(user_close).partition(ANSWER)[0]
    if not header:  # a template may write a header before each answer, and none where one is asked for
        header, ignores = (between, True) if between.strip() else ("", False)
    answer_open = os.path.commonprefix([header, between])
    bos = tokenizer.bos_token or ""
    if not header.startswith(bos):  # SmolLM2's BOS opens every turn; Llama's only the text
        user_open = user_open.removeprefix(bos)
    opening = answer_open if answer_open.strip() else header
    ends = {token: special[token] for token in (bos, tokenizer.eos_token) if token in special}
    written = user_open + user_close + opening + answer_close
    return ChatFormat(
        template=str(template),
        header=header,
        answer_open=opening,
        user_open=user_open,
        user_close=user_close,
        answer_close=answer_close,
        ignores_header=ignores,
        starts_with_bos=bool(bos) and asked.startswith(bos),
        header_ids=tokenizer(header, add_special_tokens=False)["input_ids"] if header else [],
        close_ids=_close_ids(tokenizer, user_close, header) if header and not ignores else [],
        open_ids=set(_special_ids(tokenizer, user_open)),
        end_id=next(iter(_special_ids(tokenizer, answer_close)), None),
        adds_bos=adds_bos,
        adds_eos=adds_eos,
        special=special,
        marks=ends | {each.content: n for n, each in tokenizer.added_tokens_decoder.items() if each.content in written},
    )


def _render(tokenizer: Any, chat: list[dict[str, str]], **options: Any) -> str:
    """The chat as text; empty where the template refuses it, as some do a chat without tools or with two turns."""
    try:
        return tokenizer.apply_chat_template(chat, tokenize=False, **options)
    except Exception:  # whatever Jinja or the template raises
        return ""


def _unended(tokenizer: Any, text: str, longer: str) -> str:
    """Without the end token that some templates (Phi-3's) write behind a chat only where no other turn follows."""
    bare = text.removesuffix(tokenizer.eos_token or "")
    return bare if longer.startswith(bare) and not longer.startswith(text) else text


def _close_ids(tokenizer: Any, user_close: str, header: str) -> list[int]:
    ids = tokenizer(user_close + header, add_special_tokens=False)["input_ids"]
    return ids if ids[:1] == _special_ids(tokenizer, user_close)[:1] else []


def _special_ids(tokenizer: Any, text: str) -> list[int]:
    """Ids of the added tokens spelled in `text`, in order."""
    added = {token.content: token_id for token_id, token in tokenizer.added_tokens_decoder.items()}
    spelled = sorted((content for content in added if content in text), key=len, reverse=True)
    return [added[found] for found in re.findall("|".join(map(re.escape, spelled)), text)] if spelled else []
