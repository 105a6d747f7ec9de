"""What watched calls have written into the caches that callers hand on from one call to the next."""

from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

if TYPE_CHECKING:
    from pitfalls.inspector.call import Call

_written: WeakKeyDictionary[Any, list[list[int]]] = WeakKeyDictionary()  # a cache: the ids of each row that it holds


def ids_in(cache: Any, length: int) -> list[list[int]] | None:
    """The ids in a cache of this length; None where they are not known, as after a forward pass of the caller's own."""
    try:
        rows = _written.get(cache)
    except TypeError:  # no weak references to it
        return None
    return rows if rows and len(rows[0]) == length else None


def note_cache(call: "Call") -> None:
    """Remember what a call that has ended has written into the cache that it was given."""
    cache = call.arguments.get("past_key_values")
    if call.cache_length is None or call.has_encoder:
        return
    _written.pop(cache, None)
    before = call.cached_ids if call.continues else [[] for _ in call.rows]
    if call.output_ids is None or before is None or not all(len(row.steps) for row in call.rows):
        return  # with beams, rows change their places
    rows = [old + new for old, new in zip(before, call.output_ids.tolist(), strict=True)]
    _written[cache] = [row[: cache.get_seq_length()] for row in rows]
