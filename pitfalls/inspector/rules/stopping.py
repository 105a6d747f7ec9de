"""Rules about what the caller lets stop a text (lessons 4 and 10)."""

import dis
import inspect
from typing import Any

from pitfalls.inspector.again import again
from pitfalls.inspector.call import Call
from pitfalls.inspector.given import token_ids
from pitfalls.inspector.rule import Said, rule
from pitfalls.inspector.vocabulary import special_ids
from pitfalls.language import N_, _


@rule(
    "warning",
    "04_length",
    mistake="""
    stop = tokenizer("\\n###\\n", add_special_tokens=False)["input_ids"]
    inputs = tokenizer("1. one\\n2. two\\n3.", return_tensors="pt")
    model.generate(**inputs, max_new_tokens=12, eos_token_id=stop)
    """,
    fix='output = model.generate(**inputs, max_new_tokens=50, stop_strings=["\\n###\\n"], tokenizer=tokenizer)',
    source="https://github.com/huggingface/transformers/issues/26959",
)
def stop_text_as_ids(call: Call) -> str | Said | None:
    """A text was tokenized, and its ids given as end ids: each of them alone ends the answer, not the text.

    `eos_token_id` takes several ids, and any one stops. A stop string of three tokens, given so, stops at the first of
    them, such as a line end. `stop_strings` looks for the text as a whole.
    """
    given = token_ids(call.given("eos_token_id"))
    if call.tokenizer is None or len(given) < 2:
        return None
    special = special_ids(call.tokenizer) | set(call.own_end_ids)
    pieces = [token for token in given if token not in special]
    text = call.tokenizer.decode(pieces) if len(pieces) > 1 else ""
    if not text or not _is_one_text(call.tokenizer, pieces, text):
        return None
    stopped = [row.new_ids[-1] for row in call.rows if row.stopped_by == "end-of-sequence" and row.new_ids]
    if call.made and not any(token in pieces for token in stopped):
        return None
    first = next((token for token in stopped if token in pieces), pieces[0])
    code = again(call, "eos_token_id", stop_strings=[text])
    told = {"ids": given, "text": text, "piece": call.tokenizer.decode([first])}
    if call.made:
        message = _(
            "The end ids {ids} are the pieces of {text!r}, and each stops alone: {piece!r} stopped the answer.", **told
        )
    else:
        message = _(
            "The end ids {ids} are the pieces of {text!r}, and each stops alone: {piece!r} stops the answer.", **told
        )
    certain = len(set(pieces)) < len(pieces) or any(map(str.isalpha, text))  # "###" or a line end?
    return Said(message, None if certain else "note", code)


@rule(
    "warning",
    "10_under_control",
    mistake="""
    from transformers import StoppingCriteria
    class Comma(StoppingCriteria):
        def __call__(self, ids, scores, **kwargs):
            return bool((ids[:, -1:] >= 0).any())  # "has any row …"
    batch = tokenizer(texts, padding=True, padding_side="left", return_tensors="pt")
    model.generate(**batch, max_new_tokens=5, stopping_criteria=[Comma()])
    """,
    fix="""
    from transformers import StoppingCriteria
    class Comma(StoppingCriteria):
        def __call__(self, ids, scores, **kwargs):
            return ids[:, -1] == tokenizer(",", add_special_tokens=False)["input_ids"][0]  # a bool for each row
    batch = tokenizer(texts, padding=True, padding_side="left", return_tensors="pt")
    output = model.generate(**batch, max_new_tokens=50, stopping_criteria=[Comma()])
    """,
    source="https://github.com/huggingface/transformers/issues/26959",
)
def criterion_per_row(call: Call) -> str | Said | None:
    """A stopping criterion looks at one row, or for any row, and its single answer ends all rows of the batch.

    `generate` takes a tensor with a bool for each row. A single `True` stands for all: rows that were in the middle of
    a sentence end there too.
    """
    given = call.arguments.get("stopping_criteria")
    for criterion in given if call.answered_for_all and isinstance(given, (list, tuple)) else ():
        name = type(criterion).__name__
        cut = [n for n, row in enumerate(call.rows) if row.stopped_by == name]
        looks = _looks_at(criterion) if name in call.answered_for_all and len(cut) > 1 else None
        if looks:
            return _(looks, criterion=name, rows=len(cut))
    return None


def _is_one_text(tokenizer: Any, pieces: list[int], text: str) -> bool:
    """Whether the ids are one text cut into pieces, and not several that may each end a text, as ".", "!" and "?"."""
    if len(set(pieces)) < len(pieces):
        return True
    if tokenizer(text, add_special_tokens=False)["input_ids"] != pieces:
        return False
    parts = [tokenizer.decode([token]) for token in pieces]
    if any(len(part.strip()) > 1 and not part.strip().isalnum() for part in parts):
        return True  # such as "###"
    if not parts[0].startswith(" ") and all(part.startswith(" ") for part in parts[1:]):
        return True  # "The end": a list of single words would have all of them in one form
    words = [part for part in parts if part.strip().isalpha()]
    return 0 < len(words) < len(parts) or any(part.isalpha() and part.islower() for part in parts[1:])


def _looks_at(criterion: Any) -> str | None:
    """Says how a criterion comes to one answer for all rows, by its code; None where it may well hold for all.

    One that asks a clock or a flag means all rows, and so does one that waits until all of them are done.
    """
    call = criterion if inspect.isfunction(criterion) else inspect.getattr_static(type(criterion), "__call__", None)
    code, first = getattr(call, "__code__", None), 0 if call is criterion else 1  # behind self
    if code is None or code.co_argcount <= first:
        return None
    ids, steps = code.co_varnames[first], list(dis.get_instructions(code))
    read = [n for n, step in enumerate(steps) if step.opname.startswith("LOAD_") and _last(step.argval) == ids]
    for n in read:
        measured = _last(steps[n - 1].argval) == "len" or any(
            step.argval in ("shape", "size") for step in steps[n + 3 : n + 4]
        )
        if steps[n + 1].argval == 0 and not measured:
            return N_(
                "{criterion} looks at the first row, and answered True once for all: "
                "{rows} rows were cut there together."
            )
    names = set(code.co_names)
    if read and "any" in names and "all" not in names:
        return N_("{criterion} asks for any row, and answered True once for all: {rows} rows were cut there together.")
    return None


def _last(loaded: Any) -> Any:
    """What one instruction loads last: newer versions of Python load two variables at once."""
    return loaded[-1] if isinstance(loaded, tuple) else loaded
