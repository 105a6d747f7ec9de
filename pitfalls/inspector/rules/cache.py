"""Rules about the cache of keys and values that a call is given (lesson 12)."""

from typing import Any

import torch

from pitfalls.inspector.call import Call
from pitfalls.inspector.rule import Said, rule
from pitfalls.language import _, ngettext

FRESH = """
output = model.generate(**inputs, max_new_tokens=50)  # all ids of the text, and a new cache
"""


@rule(
    "error",
    "12_conversations",
    mistake="""
    from transformers import DynamicCache
    cache = DynamicCache(config=model.config)
    model.generate(**inputs, past_key_values=cache, max_new_tokens=5)
    model.generate(**inputs, past_key_values=cache, max_new_tokens=5)  # it holds the first answer too
    """,
    fix=FRESH + "# one cache for several prompts: past_key_values=copy.deepcopy(cache), made of their common beginning",
    source="https://github.com/MemTensor/MemOS/issues/2301",
    explains="0 elements|out of (?:bounds|range)|size of tensor|[Ss]izes of tensors|slice shapes|tuple|get_seq_length",
    encoders=True,
)
def stale_cache(call: Call) -> str | Said | None:
    """The cache that is given holds another text than the beginning of this prompt.

    `generate` counts: with as many ids as the mask has columns, it leaves out those that the cache holds and reads the
    rest. So give all ids of the text, and a cache that holds their beginning only; or the new ids alone, with a mask
    of the whole text. It writes prompt and answer into the cache, which is of no use for another prompt afterwards.
    """
    cache = call.arguments.get("past_key_values")
    if isinstance(cache, (tuple, list)):
        return Said(
            _(
                "past_key_values is a {type}: transformers 5 takes a Cache, such as DynamicCache.",
                type=type(cache).__name__,
            ),
            fix=FRESH + "# with the keys and values at hand: past_key_values=DynamicCache([(keys, values), ...])",
        )
    held, width = call.cache_length, call.width
    if not held or not width or call.arguments.get("custom_generate") is not None:
        return None
    rows, copies = _rows(cache), max(call.get("num_beams") or 1, call.get("num_return_sequences") or 1)
    wanted = len(call.token_rows) * copies
    if rows not in (None, wanted):
        return ngettext(
            "The cache holds {n} row of text, this call has {rows}.",
            "The cache holds {n} rows of text, this call has {rows}.",
            rows,
            rows=wanted,
        )
    if width < call.mask_width < held + width:
        return _(
            "The mask has {columns} columns, but the {held} tokens in the cache and the {new} new ones make {total}: "
            "it must cover them all.",
            columns=call.mask_width,
            held=held,
            new=width,
            total=held + width,
        )
    if call.mask_width != width:
        return None
    if held >= width:
        return _(
            "The cache holds {held} tokens before this call, and the ids with their mask are {ids}: they count as a "
            "text that has been read already, so the answer belongs to another text, or the call raises.",
            held=held,
            ids=width,
        )
    for row, cached in zip(call.token_rows, call.cached_ids or [], strict=False):
        if cached != row[:held]:
            same = next(n for n, (token, other) in enumerate(zip(cached, row, strict=False)) if token != other)
            return _(
                "The cache holds {held} tokens of another text: only the first {same} of them are the prompt's, and "
                "the others are read in the place of its own.",
                held=held,
                same=same,
            )
    return None


def _rows(cache: Any) -> int | None:
    """How many rows of text a cache holds; None where that can't be seen."""
    keys = [getattr(layer, "keys", None) for layer in getattr(cache, "layers", ())]
    return next((each.shape[0] for each in keys if isinstance(each, torch.Tensor) and each.ndim == 4), None)
