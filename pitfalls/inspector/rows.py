"""What came of a call: its rows, the steps of each, and why it stopped there."""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, overload

import torch
from transformers import EosTokenCriteria, MaxLengthCriteria, MaxTimeCriteria, StopStringCriteria

if TYPE_CHECKING:
    from pitfalls.inspector.call import Call
    from pitfalls.inspector.listening import Heard

STOP_NAMES = {
    EosTokenCriteria: "end-of-sequence",
    MaxLengthCriteria: "length",
    MaxTimeCriteria: "time",
    StopStringCriteria: "stop-string",
}


class Candidate(NamedTuple):
    """A token that could come next, and its probability after penalties, before temperature, top-k and top-p."""

    token_id: int
    text: str
    probability: float


@dataclass(frozen=True)
class Step:
    """One new token: what was taken, what else could have been, and how likely an end of the text was."""

    chosen: Candidate
    candidates: list[Candidate]  # the likeliest first, at most 10
    end_probability: float  # of all end-of-sequence ids together
    entropy: float  # bits


@dataclass(frozen=True)
class Row:
    """One sequence of a call: its prompt without padding, and what was generated up to where it stopped."""

    prompt_ids: list[int]
    new_ids: list[int]  # with the end token, if that came, and without the padding after it
    prompt_text: str
    new_text: str  # without special tokens
    stopped_by: str
    steps: Sequence[Step] = field(repr=False)  # empty for beam search and assisted decoding


class Steps(Sequence[Step]):
    """The steps of one row, made when they are looked at: most calls are watched for their text alone."""

    def __init__(self, kept: torch.Tensor, new_ids: list[int], tokenizer: Any):
        self.kept, self.new_ids, self.tokenizer = kept, new_ids, tokenizer  # kept: (new tokens, see `Heard.kept`)

    def __len__(self) -> int:
        return len(self.new_ids)

    @overload
    def __getitem__(self, place: int) -> Step: ...
    @overload
    def __getitem__(self, place: slice) -> list[Step]: ...
    def __getitem__(self, place: int | slice) -> Step | list[Step]:
        if isinstance(place, slice):
            return [self[n] for n in range(*place.indices(len(self)))]
        place = range(len(self))[place]  # `kept` goes on after a row's end, in a batch
        token_id = self.new_ids[place]
        chosen, ending, entropy, *top = self.kept[place].tolist()
        logs, ids = top[: len(top) // 2], top[len(top) // 2 :]
        return Step(
            chosen=self._candidate(token_id, chosen),
            candidates=[self._candidate(int(other), log) for other, log in zip(ids, logs, strict=True)],
            end_probability=ending,
            entropy=entropy,
        )

    def _candidate(self, token_id: int, log_probability: float) -> Candidate:
        text = self.tokenizer.decode([token_id]) if self.tokenizer else ""
        return Candidate(token_id, text, torch.tensor(log_probability).exp().item())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(other)

    def __repr__(self) -> str:
        return repr(list(self))


def rows_of(call: "Call", heard: "Heard") -> list[Row]:
    """The rows of a call that has returned `call.output_ids`. Without a tokenizer their texts are empty."""
    assert call.output_ids is not None
    tokenizer, rows = call.tokenizer, []
    copies = len(call.output_ids) // max(1, len(call.token_rows))  # num_return_sequences
    width = call.start
    kept = heard.steps(call.output_ids, width)
    for n, ids in enumerate(call.output_ids.tolist()):
        prompt = ids[:width] if call.given_ids is None else []
        if call.input_ids is not None and call.attention_mask is not None:
            prompt = call.input_ids[n // copies][call.attention_mask[n // copies].bool()].tolist()
        length, why = _stop(call, ids, width, heard.votes)
        new = ids[width:length]
        rows.append(
            Row(
                prompt_ids=prompt,
                new_ids=new,
                prompt_text=tokenizer.decode(prompt) if tokenizer else "",
                new_text=tokenizer.decode(new, skip_special_tokens=True) if tokenizer else "",
                stopped_by=why,
                steps=[] if kept is None else Steps(kept[:, n], new, tokenizer),
            )
        )
    return rows


def _stop(call: "Call", ids: list[int], width: int, votes: dict[int, str]) -> tuple[int, str]:
    """How many ids a row has before its padding, the prompt included, and why it stopped there.

    What comes first ends it. Where several come together the text's own end is named, then the caller's criterion, and
    last the length: a text that ends on its last token is not cut off.
    """
    criteria = [each for each in call.arguments.get("stopping_criteria") or () if type(each) in STOP_NAMES]
    end_ids = set(call.end_ids)
    for criterion in criteria:
        end_ids |= set(torch.as_tensor(getattr(criterion, "eos_token_id", [])).flatten().tolist())
    lengths = range(width + 1, len(ids) + 1)
    ends = [(length, "end-of-sequence") for length in lengths if ids[length - 1] in end_ids][:1]
    if votes:
        ends += [(n, votes[vote]) for n in lengths if (vote := hash(tuple(ids[:n]))) in votes][:1]
    if length := _stop_string(call, ids):
        ends.append((length, "stop-string"))
    if ends:
        return min(ends, key=lambda end: end[0])
    if len(ids) >= (call.settings.max_length or 0):
        return len(ids), "length"
    named = [STOP_NAMES[type(criterion)] for criterion in criteria]
    return len(ids), "time" if call.get("max_time") is not None else next(iter(named), "unknown")


def _stop_string(call: "Call", ids: list[int]) -> int | None:
    """After how many ids one of the stop strings stands in the text for the first time, if that is after the prompt."""
    stops = call.get("stop_strings")
    tokenizer = call.arguments.get("tokenizer") or call.tokenizer
    if not stops or tokenizer is None:
        return None
    stops = [stops] if isinstance(stops, str) else list(stops)
    first = max(0, call.start - max(map(len, stops)))  # it may begin in the prompt
    start = len(tokenizer.decode(ids[first : call.start]))

    def stands(length: int) -> bool:
        text = tokenizer.decode(ids[first:length])
        return any(text.find(stop, max(0, start - len(stop) + 1)) >= 0 for stop in stops)

    if not stands(len(ids)):
        return None
    return bisect_left(range(len(ids) + 1), True, lo=call.start + 1, key=stands)
