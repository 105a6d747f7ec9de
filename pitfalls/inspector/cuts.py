"""Where an answer was cut out of a row of the output: what the place shows of how it was counted."""

import re

from pitfalls.inspector.call import Call, Decoded
from pitfalls.inspector.rule import Said
from pitfalls.inspector.vocabulary import without_bos
from pitfalls.language import _, ngettext

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
    told = _counted(call, piece, _lost(piece.first - call.start, len(new)))
    return Said(told) if told else None


def _lost(tokens: int, new: int) -> str:
    """What a cut costs that many tokens behind the beginning of the answer, or before it."""
    if tokens < 0:
        return ngettext("{n} token of the prompt comes along", "{n} tokens of the prompt come along", -tokens)
    return ngettext(
        "the first {n} of {new} new tokens is lost", "the first {n} of {new} new tokens are lost", tokens, new=new
    )


def _nothing(call: Call, n: int, first: int) -> Said | None:
    """Of an empty piece: it stands behind the row, or ends before the answer begins."""
    new, width = call.rows[n].new_ids, call.output_ids.shape[1]
    if first == width > call.start:
        counted = [number for number in _characters(call, n) if number >= width]
        told = _(
            "Nothing is decoded: the cut is behind all {width} tokens of the row, and the answer begins at {start}.",
            width=width,
            start=call.start,
        )
        if counted:
            why = _("The prompt has {characters} characters, and these are not its tokens.", characters=counted[0])
            return Said(f"{told} {why}")
        return Said(told)
    budget = call.get("max_new_tokens")
    thinks = "think" in call.chat.template or "think" in call.tokenizer.decode(new)  # an empty thought is no mistake
    if first == call.start and isinstance(budget, int) and budget <= call.start and not thinks:
        return Said(
            _(
                "Nothing is decoded: the answer begins at token {start}, and a slice that ends at "
                "max_new_tokens={budget} ends before it.",
                start=call.start,
                budget=budget,
            )
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
            _(
                "{read} of {new} new tokens are decoded: the slice ends at token {last} of the row, which counts the "
                "prompt's {prompt} tokens too.",
                read=read,
                new=len(new),
                last=last,
                prompt=call.start,
            )
        )
    text, rest = call.tokenizer.decode(new[:read]), call.tokenizer.decode(new[read : read + 4])
    if re.search(NATURAL_END, text) or re.match(NATURAL_REST, rest):
        return None
    told = _(
        "{read} of {new} new tokens are decoded: the text ends before {rest!r}.", read=read, new=len(new), rest=rest
    )
    return Said(told, "note")


def _counted(call: Call, piece: Decoded, lost: str) -> str | None:
    """What was counted instead of the tokens before the answer, where the cut shows it; and what is lost."""
    first, n = piece.first or 0, piece.row or 0
    prompt, at = call.prompt_of(n), {"start": call.start, "cut": first, "lost": lost}
    if 0 < first < call.start and call.prompts:
        lengths, pad = [len(ids) for ids in call.prompts], call.pads[prompt]
        if first in lengths and any(pad.left for pad in call.pads):
            row = prompt if lengths[prompt] == first else lengths.index(first)
            return _(
                "The answer begins at token {start}, and is cut at {cut}, which is the length of row {row} without its "
                "pads: {lost}.",
                row=row,
                **at,
            )
        dropped = set(call.output_ids[n, pad.left : first].tolist()) - call.special_ids
        if dropped and first == len(call.token_rows):
            return _(
                "The answer begins at token {start}, and is cut at {cut}, which is the number of rows: {lost}.", **at
            )
        if dropped and first in (2, 3):
            return _(
                "The answer begins at token {start}, and is cut at {cut}, which is the number of entries that a "
                "tokenizer returns: {lost}.",
                **at,
            )
        if len(piece.ids) == call.budget and first + len(piece.ids) == call.output_ids.shape[1]:
            return _(
                "The answer begins at token {start}, and is cut at {cut}, {budget} tokens before the end, which are "
                "more than were written: {lost}.",
                budget=call.budget,
                **at,
            )
    if first not in _characters(call, n):
        return None
    return _(
        "The answer begins at token {start}, and is cut at {cut}, which is the length of the prompt in characters: "
        "{lost}.",
        **at,
    )


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
