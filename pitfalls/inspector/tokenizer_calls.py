"""What is heard of tokenizers while a `watch` block is open: what they encode, render and decode."""

import dataclasses
import inspect
import logging
import sys
from collections.abc import Callable
from typing import Any

from transformers import PreTrainedTokenizerBase

from pitfalls.inspector.call import Call
from pitfalls.inspector.conversation import Conversation
from pitfalls.inspector.decoded import located
from pitfalls.inspector.patching import Patch
from pitfalls.inspector.tokenizing import Encodings
from pitfalls.inspector.watcher import INSIDE, WATCHERS, Watcher, looking

DECODING_RULES = ("prompt-echo", "special-tokens-kept", "answer-cut", "lost-marker", "encoder-decoder")
ENCODINGS = Encodings()
_TEMPLATE = inspect.signature(PreTrainedTokenizerBase.apply_chat_template)
_log = logging.getLogger("pitfalls")


def _unheard() -> bool:
    return not WATCHERS or getattr(INSIDE, "looking", False)


# --- encoding ----------------------------------------------------------------------------------------------------


def _heard_encoding(original: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
    __tracebackhide__ = True
    output = original(*args, **kwargs)
    if _unheard():
        return output
    try:
        tokenizer, text = args[0], args[1] if len(args) > 1 else kwargs.get("text")
        _name_texts(text)
        ids = output["input_ids"] if hasattr(output, "keys") else output
        ENCODINGS.hear_ids(tokenizer, text, _lists(ids))
    except Exception:  # whatever stands in the way of listening does not stand in the way of the call
        _log.debug("an encoding could not be heard", exc_info=True)
    return output


def _lists(ids: Any) -> Any:
    """Ids as lists, where they are tensors or arrays, or lists of those."""
    ids = ids.tolist() if hasattr(ids, "tolist") else ids
    return [_lists(row) for row in ids] if isinstance(ids, (list, tuple)) else ids


# --- rendering ---------------------------------------------------------------------------------------------------


def _heard_template(original: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
    __tracebackhide__ = True
    if _unheard() or getattr(INSIDE, "rendering", None):
        return original(*args, **kwargs)
    INSIDE.rendering, INSIDE.failed = _conversations(args, kwargs), None
    try:
        output = original(*args, **kwargs)
        _name_texts(output)
        return output
    except Exception as error:
        INSIDE.failed = error, args[0], INSIDE.rendering
        raise
    finally:
        INSIDE.rendering = None


def _conversations(args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Conversation]:
    """Those of a call of `apply_chat_template`, without their texts."""
    try:
        given = _TEMPLATE.bind(*args, **kwargs).arguments
        more = given.pop("kwargs", {})
        chats, tools = given["conversation"], given.get("tools")
        options = {name: given[name] for name in ("tools", "documents") if given.get(name) is not None} | more
        template = str(given["self"].get_chat_template(given.get("chat_template"), tools))
        several = isinstance(chats, (list, tuple)) and bool(chats) and isinstance(chats[0], (list, tuple))
        return [Conversation(list(chat), options, template, "") for chat in (chats if several else [chats])]
    except Exception:  # the tokenizer is about to say so itself
        return []


def _name_texts(texts: Any) -> None:
    """Remember what the conversations that are being rendered look like as text."""
    conversations = getattr(INSIDE, "rendering", None)
    texts = [texts] if isinstance(texts, str) else texts
    if conversations and isinstance(texts, list) and len(texts) == len(conversations):
        for conversation, text in zip(conversations, texts, strict=True):
            if isinstance(text, str):
                ENCODINGS.hear_text(dataclasses.replace(conversation, text=text))


def failed_template(error: BaseException) -> tuple[Any, list[Conversation | None]]:
    """The tokenizer and the conversations of a template that raised this error; None and none for another error."""
    failed, tokenizer, conversations = getattr(INSIDE, "failed", None) or (None, None, [])
    INSIDE.failed = None
    return (tokenizer, list(conversations)) if failed is error else (None, [])


def conversations_of(call: Call) -> list[Conversation | None]:
    """Of each row, the conversation that it was made of; None where that was not heard."""
    if not ENCODINGS.rendered:
        return []
    return [_conversation(call, n, row) for n, row in enumerate(call.unmasked_rows)]


def _conversation(call: Call, n: int, row: list[int]) -> Conversation | None:
    encoded = ENCODINGS.of(call.token_rows[n], row)
    if encoded is not None and encoded.conversation is not None:
        return encoded.conversation
    if call.tokenizer is None:
        return None
    text = call.tokenizer.decode(row)
    written = (each for each in reversed(ENCODINGS.rendered) if each in text or (text and each.startswith(text)))  # cut
    return ENCODINGS.rendered.get(next(written, ""))


# --- decoding ----------------------------------------------------------------------------------------------------


def _heard_decoding(original: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
    __tracebackhide__ = True
    if _unheard() or getattr(INSIDE, "decode", False):
        return original(*args, **kwargs)
    INSIDE.decode = True  # decoding a batch decodes its rows
    try:
        text = original(*args, **kwargs)
        with looking():
            _look_at_decoding(*args, **kwargs)
        return text
    finally:
        INSIDE.decode = False


def _look_at_decoding(
    self: Any, token_ids: Any = None, skip_special_tokens: bool | None = None, sequences: Any = None, **kwargs: Any
) -> None:
    """Let the rules about decoding look at the call whose output this is: by the caller, not by a library."""
    if _caller().startswith(("transformers.", "pitfalls.")):
        return
    try:
        given = token_ids if token_ids is not None else sequences
        for watcher in list(WATCHERS):
            for call in watcher.recent:
                pieces = located(call, given, skip_special_tokens) if call.tokenizer is self else []
                for piece in pieces:
                    call.decoded = piece
                    _apply(call, watcher)
                if pieces:
                    break
    except Exception:
        _log.debug("a decoding could not be looked at", exc_info=True)


def _apply(call: Call, watcher: Watcher) -> None:
    if call.decoded is not None and call.decoded.first == call.start and call.decoded.ids:
        call.answer_read = True  # so the whole text, before or after, was for a log
        call.report.discard("prompt-echo")
    rules = [watcher.rules[name] for name in DECODING_RULES if name in watcher.rules]
    for finding in (rule(call) for rule in rules if rule.encoders or not call.has_encoder):
        if finding:
            call.report.add(finding)


def _caller() -> str:
    """The module from which the decoding was asked for."""
    frame = sys._getframe(1)
    while frame.f_back and frame.f_globals.get("__name__") in (__name__, Patch.__module__, _DECODED_IN):
        frame = frame.f_back
    return str(frame.f_globals.get("__name__", ""))


_DECODED_IN = PreTrainedTokenizerBase.__module__
TOKENIZER_CALLS = (
    Patch(PreTrainedTokenizerBase, "__call__", _heard_encoding),
    Patch(PreTrainedTokenizerBase, "encode", _heard_encoding),
    Patch(PreTrainedTokenizerBase, "apply_chat_template", _heard_template),
    Patch(PreTrainedTokenizerBase, "decode", _heard_decoding),
    Patch(PreTrainedTokenizerBase, "batch_decode", _heard_decoding),
)
