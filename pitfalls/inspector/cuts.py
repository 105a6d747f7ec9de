"""Where an answer was cut out of a row of the output: what the place shows of how it was counted."""

import re

from pitfalls.inspector.call import Call, Decoded
from pitfalls.inspector.rule import Said
from pitfalls.inspector.vocabulary import without_bos

NATURAL_END = r"(?:[.!?。！？:;,>\])}\"`]|\n)\s*$"  # of a text that was cut off on purpose
NATURAL_REST = r"\s*(?:\n|[<\[({#`\"]|[A-Z]\w*:)"


def wrong_cut(call: Call) -> Said | None:
    """What is wrong with the piece that was decoded last; None where nothing shows that anything is."""
    piece = call.decoded
    if piece is None or piece.row is None or piece.first is None or call.has_encoder or piece.row >= len(call.rows):
        return None
    new = call.rows[piece.row].new_ids
    last = piece.first + len(piece.ids)
    if not new or (piece.ids and (last <= call.start or len(piece.ids) == 1)):  # of the prompt, or a single token
        return None
    if _behind_a_marker(call, piece.row, piece.first):
        return None
    if not piece.ids:
        return _nothing(call, piece.row, piece.first)
    if piece.first == call.start:
        return _too_short(call, piece.row, last)
    counted = _counted(call, piece)
    if counted is None:
        return None
    lost = (
        f"{call.start - piece.first} tokens of the prompt come along"
        if piece.first < call.start
        else f"the first {piece.first - call.start} of {len(new)} new tokens are lost"
    )
    return Said(f"The answer begins at token {call.start}, and is cut at {piece.first}, {counted}: {lost}.")


def _nothing(call: Call, n: int, first: int) -> Said | None:
    """Of an empty piece: it stands behind the row, or ends before the answer begins."""
    new, width = call.rows[n].new_ids, call.output_ids.shape[1]
    if first == width > call.start:
        counted = [number for number in _characters(call, n) if number >= width]
        why = f". The prompt has {counted[0]} characters, and these are not its tokens" if counted else ""
        return Said(
            f"Nothing is decoded: the cut is behind all {width} tokens of the row, and the answer begins at "
            f"{call.start}{why}."
        )
    budget = call.get("max_new_tokens")
    thinks = "think" in call.chat.template or "think" in call.tokenizer.decode(new)  # an empty thought is no mistake
    if first == call.start and isinstance(budget, int) and budget <= call.start and not thinks:
        return Said(
            f"Nothing is decoded: the answer begins at token {call.start}, and a slice that ends at "
            f"max_new_tokens={budget} ends before it."
        )
    return None


def _too_short(call: Call, n: int, last: int) -> Said | None:
    """Of a piece that begins where the answer does: whether it ends too early."""
    special, new = call.special_ids | set(call.end_ids), list(call.rows[n].new_ids)
    while new and new[-1] in special:
        new.pop()
    read = last - call.start
    if read >= len(new):
        return None
    if last == call.get("max_new_tokens"):
        return Said(
            f"{read} of {len(new)} new tokens are decoded: the slice ends at token {last} of the row, which counts the "
            f"prompt's {call.start} tokens too."
        )
    text, rest = call.tokenizer.decode(new[:read]), call.tokenizer.decode(new[read : read + 4])
    if re.search(NATURAL_END, text) or re.match(NATURAL_REST, rest):
        return None
    return Said(f"{read} of {len(new)} new tokens are decoded: the text ends before {rest!r}.", "note")


def _counted(call: Call, piece: Decoded) -> str | None:
    """What was counted instead of the tokens before the answer, where the place of the cut shows it."""
    first, n = piece.first or 0, piece.row or 0
    prompt = call.prompt_of(n)
    if 0 < first < call.start and call.prompts:
        lengths, pad = [len(ids) for ids in call.prompts], call.pads[prompt]
        if first in lengths and any(pad.left for pad in call.pads):
            row = prompt if lengths[prompt] == first else lengths.index(first)
            return f"which is the length of row {row} without its pads"
        dropped = set(call.output_ids[n, pad.left : first].tolist()) - call.special_ids
        if dropped and first == len(call.token_rows):
            return "which is the number of rows"
        if dropped and first in (2, 3):
            return "which is the number of entries that a tokenizer returns"
        if len(piece.ids) == call.budget and first + len(piece.ids) == call.output_ids.shape[1]:
            return f"{call.budget} tokens before the end, which are more than were written"
    return "which is the length of the prompt in characters" if first in _characters(call, n) else None


def _characters(call: Call, n: int) -> list[int]:
    """How long the prompt of a row is as text, in the forms that a program may have had it in."""
    if call.tokenizer is None or not call.prompts:
        return []
    prompt = call.prompt_of(n)
    whole = call.text(prompt)
    bare = call.tokenizer.decode(call.prompts[prompt], skip_special_tokens=True)
    question = whole.rpartition(call.chat.user_open)[2] if call.chat.user_open else ""
    question = question.partition(call.chat.user_close)[0] if call.chat.user_close else question
    forms = (whole, without_bos(call.tokenizer, whole), bare, question)
    return sorted({len(text) for text in forms if text}, reverse=True)


def _behind_a_marker(call: Call, n: int, first: int) -> bool:
    """Whether a piece begins behind a header, the end of the thoughts or another marker: cut there on purpose."""
    pads = call.pads[call.prompt_of(n)].left if call.pads else 0
    before = call.output_ids[n, max(pads, first - 8) : first].tolist()
    if not before or first == call.start:
        return False
    added = getattr(call.tokenizer, "added_tokens_decoder", {})
    if first > call.start and before[-1] in added:
        return first < call.output_ids.shape[1] or before[-1] not in {*call.end_ids, *call.pad_ids}
    text = call.tokenizer.decode(before).rstrip()
    marks = (call.chat.header, call.chat.answer_open, call.chat.user_close, "</think>")
    return any(text.endswith(mark.strip()) for mark in marks if mark.strip())
