"""Which tokenizer made the ids of a call, and of which conversation: what `watch` hears of tokenizers, and finds.

Nothing is loaded and nothing is guessed. Ids that a tokenizer made inside the block are known by themselves; for others
the tokenizers heard in the block, and then those among the names of the frames that led to the call, are compared with
the model's table of embeddings and its end token, and asked to write the ids' text again. Where none fits, or two
different ones do, the answer is None.
"""

import sys
from collections import Counter, OrderedDict
from collections.abc import Iterator
from types import FrameType, ModuleType
from typing import Any, NamedTuple
from weakref import ref

from transformers import PreTrainedTokenizerBase

from pitfalls.inspector.call import Call
from pitfalls.inspector.conversation import Conversation
from pitfalls.inspector.vocabulary import special_ids
from pitfalls.language import _

KEPT_ROWS, KEPT_TEXTS, KEPT_TOKENIZERS = 4096, 64, 16
SAMPLE = 64  # ids whose text is written again
ALIKE = 0.9  # share of them that must come back: cuts and seams change some
SPARE, ADDED = 512, 128  # rows of a table of embeddings beyond the vocabulary, and tokens added beyond the table
FRAMES = 20
LIBRARIES = (
    "transformers", "transformers_modules", "torch", "pitfalls", "peft", "accelerate", "threading", "concurrent",
)  # fmt: skip


class Encoded(NamedTuple):
    tokenizer: Any  # a weak reference
    conversation: Conversation | None


class Encodings:
    """The rows of ids that tokenizers made while someone watched: their hashes, and whose they are."""

    def __init__(self) -> None:
        self.rows: OrderedDict[int, Encoded] = OrderedDict()
        self.rendered: OrderedDict[str, Conversation] = OrderedDict()  # by the text that the template wrote
        self.tokenizers: OrderedDict[int, Any] = OrderedDict()  # weak references, by the id of the tokenizer

    def clear(self) -> None:
        for kept in (self.rows, self.rendered, self.tokenizers):
            kept.clear()

    def hear_text(self, conversation: Conversation) -> None:
        if conversation.text:
            _put(self.rendered, conversation.text, conversation, KEPT_TEXTS)

    def hear_ids(self, tokenizer: Any, text: Any, ids: Any) -> None:
        """`ids`: a list, or a list of rows, made of `text`."""
        texts = text if isinstance(text, (list, tuple)) else [text]
        rows = ids if ids and isinstance(ids[0], list) else [ids]
        weak = ref(tokenizer)
        _put(self.tokenizers, id(tokenizer), weak, KEPT_TOKENIZERS)
        for n, row in enumerate(rows[:KEPT_ROWS]):
            written = texts[n] if len(texts) == len(rows) and isinstance(texts[n], str) else ""
            encoded = Encoded(weak, self.rendered.get(written) or self._same_but_bos(tokenizer, written))
            _put(self.rows, hash(tuple(row)), encoded, KEPT_ROWS)

    def _same_but_bos(self, tokenizer: Any, written: str) -> Conversation | None:
        """A rendered text from which the caller took the BOS away, as the tokenizer adds it again."""
        bos = getattr(tokenizer, "bos_token", None)
        return self.rendered.get(bos + written) if bos and written and self.rendered else None

    def of(self, row: list[int], *others: list[int]) -> Encoded | None:
        """What is known of a row, or of the same row without its pads."""
        found = (self.rows.get(hash(tuple(ids))) for ids in (row, *others))
        return next((encoded for encoded in found if encoded is not None and encoded.tokenizer() is not None), None)

    def alive(self) -> list[Any]:
        """The tokenizers that were heard, the latest first."""
        found = (weak() for weak in reversed(list(self.tokenizers.values())))
        return [tokenizer for tokenizer in found if tokenizer is not None]


def _put(kept: OrderedDict[Any, Any], key: Any, value: Any, limit: int) -> None:
    kept[key] = value
    kept.move_to_end(key)
    while len(kept) > limit:
        kept.popitem(last=False)


# --- whose ids ---------------------------------------------------------------------------------------------------


def whose(encodings: Encodings, call: Call, frames: list[FrameType]) -> Any:
    """The tokenizer that made the ids of a call; None where that is not certain."""
    rows = call.unmasked_rows
    if not rows or not all(rows):
        return None
    known = {id(encoded.tokenizer()): encoded.tokenizer() for row in rows if (encoded := encodings.of(row))}
    if len(known) == 1:
        return next(iter(known.values()))
    for tokenizers in (encodings.alive(), _named(frames)):
        fitting = [tokenizer for tokenizer in tokenizers if _fits(tokenizer, call) and _made(tokenizer, rows[0])]
        if fitting:
            return _only(fitting, str(getattr(call.model, "name_or_path", "")))
    return None


def _only(tokenizers: list[Any], name: str) -> Any:
    """The first, where all are alike, or those that bear the model's name are; None otherwise."""
    own = [each for each in tokenizers if each.name_or_path and each.name_or_path == name]
    for group in (tokenizers, own):
        if len({(len(each), str(each.chat_template), str(each.special_tokens_map)) for each in group}) == 1:
            return group[0]
    return None


def _fits(tokenizer: Any, call: Call) -> bool:
    """Whether the vocabulary has about the size of the model's table of embeddings, and has the model's end tokens."""
    if call.embeddings is None or not -ADDED <= call.embeddings - len(tokenizer) <= SPARE:
        return False
    special = special_ids(tokenizer) | set(getattr(tokenizer, "added_tokens_decoder", {}))
    return not call.own_end_ids or any(end in special for end in call.own_end_ids)


def _made(tokenizer: Any, ids: list[int]) -> bool:
    """Whether these ids are how this tokenizer writes their text."""
    sample = ids[-SAMPLE:]
    if not all(0 <= token < len(tokenizer) for token in sample):
        return False
    try:
        text = tokenizer.decode(sample, skip_special_tokens=False, clean_up_tokenization_spaces=False)
        again = tokenizer(text, add_special_tokens=False)["input_ids"]
    except Exception:  # whatever a tokenizer raises about ids that are not its own
        return False
    return sum((Counter(sample) & Counter(again)).values()) >= ALIKE * max(len(sample), len(again))


# --- the frames that led to a call -------------------------------------------------------------------------------


def frames_of_caller() -> list[FrameType]:
    """The frames above this one that belong to no library, the innermost first."""
    frames: list[FrameType] = []
    frame = sys._getframe(1)
    while frame is not None and len(frames) < FRAMES:
        if str(frame.f_globals.get("__name__", "")).split(".")[0] not in LIBRARIES:
            frames.append(frame)
        frame = frame.f_back  # type: ignore[assignment]
    return frames


def place(frames: list[FrameType]) -> str:
    """Where a call was made, such as "train.py:17"; in a notebook the line of its cell."""
    if not frames:
        return ""
    file, line = frames[0].f_code.co_filename, frames[0].f_lineno
    if "ipykernel" in file or "ipython-input" in file:
        return _("line {line} of the cell", line=line)
    return f"{file.replace(chr(92), '/').rpartition('/')[2]}:{line}"


def _named(frames: list[FrameType]) -> list[Any]:
    """The tokenizers among the names of the frames, and one step inside what has these names."""
    found: dict[int, Any] = {}
    seen: set[int] = set()
    for frame in frames:
        for namespace in (frame.f_locals, frame.f_globals):
            if id(namespace) in seen:
                continue
            seen.add(id(namespace))
            for value in list(namespace.values()):
                found.update((id(tokenizer), tokenizer) for tokenizer in _tokenizers_in(value))
    return list(found.values())


def _tokenizers_in(value: Any) -> Iterator[Any]:
    """The tokenizer that this is, or those that it keeps. Only `__dict__` is read: asking for a name may run code."""
    if issubclass(type(value), PreTrainedTokenizerBase):
        yield value
    if issubclass(type(value), (ModuleType, type)):
        return
    for kept in _kept(value):
        for each in (kept, _kept(kept, "tokenizer")):  # the second: of a processor or a pipeline
            if issubclass(type(each), PreTrainedTokenizerBase):
                yield each


def _kept(value: Any, name: str | None = None) -> Any:
    """The values of an object's attributes, or one of them."""
    try:
        kept = object.__getattribute__(value, "__dict__")
    except AttributeError:
        kept = {}
    return list(kept.values()) if name is None else kept.get(name)
