"""One `generate` call, recorded: what went in, with which settings, what came out, and why it stopped.

    call = record(model, tokenizer, inputs, max_new_tokens=20)
    call.new_text           # the continuation, without the prompt
    call.stopped_by         # "end-of-sequence", "length", "stop-string", "time" or the name of a stopping criterion
    call.steps[0]           # the candidates for the first new token, with their probabilities

The ids are those that `model.generate` returns without the recorder: it only looks, through a `LogitsProcessor`
that returns its input and a `StoppingCriteriaList` that notes which criterion said stop.
"""

import copy
import math
import threading
from collections.abc import Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from transformers import GenerationConfig, LogitsProcessor, LogitsProcessorList, StoppingCriteriaList
from transformers.generation import GenerationMixin, GenerationMode

from pitfalls.inspector.patching import Patch

CANDIDATES = 10  # kept of each step; the whole vocabulary would be 200 kB a step for SmolLM2

STOP_NAMES = {
    "EosTokenCriteria": "end-of-sequence",
    "MaxLengthCriteria": "length",
    "StopStringCriteria": "stop-string",
    "MaxTimeCriteria": "time",
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
    candidates: list[Candidate]  # the likeliest first, at most `CANDIDATES`
    end_probability: float  # of all end-of-sequence ids together
    entropy: float  # bits


@dataclass(frozen=True)
class Row:
    """One sequence of a call: its prompt without padding, and what was generated up to where it stopped."""

    prompt_ids: list[int]
    new_ids: list[int]  # with the end token, if that came, and without the padding behind it
    prompt_text: str
    new_text: str  # without special tokens
    stopped_by: str
    steps: list[Step] = field(repr=False)


@dataclass(frozen=True, eq=False)  # two calls hold tensors, which `==` can't compare
class Call:
    """A recorded call. With a single row, its texts and steps can be read from the call itself."""

    input_ids: torch.Tensor  # (rows of the batch, prompt tokens), padding included
    attention_mask: torch.Tensor  # same shape; ones where the caller gave none
    output_ids: torch.Tensor  # (rows, prompt + new tokens): what `generate` returned
    settings: GenerationConfig  # as generate resolved them: the caller's, then the model's, then the defaults
    rows: list[Row]

    prompt_ids = property(lambda self: self._only_row.prompt_ids)
    new_ids = property(lambda self: self._only_row.new_ids)
    prompt_text = property(lambda self: self._only_row.prompt_text)
    new_text = property(lambda self: self._only_row.new_text)
    stopped_by = property(lambda self: self._only_row.stopped_by)
    steps = property(lambda self: self._only_row.steps)

    @property
    def _only_row(self) -> Row:
        if len(self.rows) != 1:
            raise ValueError(f"This call has {len(self.rows)} rows: say which, as in call.rows[0].new_text.")
        return self.rows[0]

    def __repr__(self) -> str:
        lines = [f"row {n}: {len(row.prompt_ids)} prompt tokens, {len(row.new_ids)} new, stopped by {row.stopped_by}: "
                 f"{row.new_text!r}" for n, row in enumerate(self.rows)]  # fmt: skip
        return "\n".join(lines)


def record(model, tokenizer, inputs, /, **generate_kwargs) -> Call:
    """Run `model.generate` once on `inputs` and keep what a reader wants to see of it.

    `inputs` is what the tokenizer returned (a `BatchEncoding` or a dict with `input_ids`, shape (batch, tokens)), or
    the tensor of ids alone; every keyword goes to `generate` as it is. Candidates are kept for greedy decoding and
    sampling; beam search and assisted decoding leave `steps` empty, because their steps do not line up with the rows.

    Raises `TypeError` for inputs that `generate` can't take, `ValueError` for an encoder-decoder model.
    """
    inputs = _as_mapping(inputs)
    if model.config.is_encoder_decoder:
        raise ValueError("record() follows decoder-only models; this one has an encoder, so its output has no prompt.")
    if generate_kwargs.get("stop_strings") is not None:
        generate_kwargs.setdefault("tokenizer", tokenizer)
    given = generate_kwargs.pop("logits_processor", None) or []
    with noting(merged_settings(model, generate_kwargs, inputs["input_ids"].shape[1])) as noted:
        watcher = _StepWatcher(noted)
        output = model.generate(**inputs, **generate_kwargs, logits_processor=LogitsProcessorList([*given, watcher]))
    return make_call(inputs | generate_kwargs, output, noted, tokenizer, watcher)


def _as_mapping(inputs) -> dict:
    if isinstance(inputs, torch.Tensor):
        inputs = {"input_ids": inputs}
    ids = inputs.get("input_ids") if isinstance(inputs, Mapping) else None
    if not isinstance(ids, torch.Tensor) or ids.ndim != 2:
        what = type(inputs).__name__ if ids is None else f"input_ids of type {type(ids).__name__}"
        what += f" and shape {tuple(ids.shape)}" if isinstance(ids, torch.Tensor) else ""
        raise TypeError(
            f"generate takes token ids of shape (batch, tokens); this is a {what}. "
            'Give what `tokenizer(texts, return_tensors="pt")` returns.'
        )
    return dict(inputs)


# --- watching ----------------------------------------------------------------------------------------------------


@dataclass
class Noted:
    """What transformers told of one generate call: the settings as it resolved them, and which criterion ended what."""

    settings: GenerationConfig | None = None  # a guess until it is told
    told: bool = False
    stops: dict[tuple, str] = field(default_factory=dict)


class _StepWatcher(LogitsProcessor):
    """Keeps the top candidates of each step. Returns the scores untouched."""

    def __init__(self, noted: Noted):
        self.noted = noted
        self.kept: list[tuple[torch.Tensor, ...]] = []  # per step: top log-probabilities, top ids, end, entropy
        self.chosen: list[torch.Tensor] = []  # per step: log-probability of the token that was taken
        self._last: torch.Tensor | None = None

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        self.note_chosen(input_ids[:, -1])
        logs = torch.log_softmax(scores.float(), dim=-1)  # (rows, vocabulary)
        top = logs.topk(min(CANDIDATES, logs.shape[-1]), dim=-1)
        end_ids = [end_id for end_id in _end_ids(self.noted.settings) if 0 <= end_id < logs.shape[-1]]
        ending = logs[:, end_ids].exp().sum(dim=-1)
        entropy = torch.special.entr(logs.exp()).sum(dim=-1) / math.log(2)
        self.kept.append((top.values, top.indices, ending, entropy))
        self._last = logs
        return scores

    def note_chosen(self, token_ids: torch.Tensor) -> None:
        if self._last is not None and self._last.shape[0] == token_ids.shape[0]:
            self.chosen.append(self._last.gather(1, token_ids[:, None].to(self._last.device))[:, 0])
        self._last = None


class _NotingCriteria(StoppingCriteriaList):
    """The criteria of one call; notes the ids for which one said stop, and the last that did.

    The last, as generate lists the length and the time first: a text that ends on its last token is not cut off.
    """

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor, **kwargs) -> torch.Tensor:
        stop = torch.full((input_ids.shape[0],), False, device=input_ids.device, dtype=torch.bool)
        for criterion in self:
            said = torch.zeros_like(stop) | criterion(input_ids, scores, **kwargs)  # a criterion may return one bool
            stop = stop | said
            for row in set(said.nonzero().flatten().tolist()) - self.ended:
                self.noted[tuple(input_ids[row].tolist())] = type(criterion).__name__
        if self.rows_stay:
            self.ended |= set(stop.nonzero().flatten().tolist())
        return stop


_looking = threading.local()  # .notes: the `Noted` that wait for this thread's next generate call


def _note_criteria(original, model, generation_config, *args, **kwargs) -> StoppingCriteriaList:
    """In place of `_get_stopping_criteria`, which each generate call asks once for its criteria."""
    criteria = original(model, generation_config, *args, **kwargs)
    waiting = [noted for noted in getattr(_looking, "notes", []) if not noted.told]
    if not waiting:
        return criteria
    settings = copy.deepcopy(generation_config)
    for name in [name for name in vars(settings) if name.endswith("_tensor")]:
        delattr(settings, name)  # private copies of the ids, which a printed configuration chokes on
    criteria = _NotingCriteria(criteria)
    criteria.noted, criteria.ended = {}, set()
    criteria.rows_stay = (settings.num_beams or 1) == 1  # beams change places
    for noted in waiting:
        noted.settings, noted.stops, noted.told = settings, criteria.noted, True
    return criteria


# Private to transformers (seen in 5.0 to 5.23): where it is missing, `_stop` reads the reason from the ids, and the
# settings are what `merged_settings` makes of the public ones.
_CRITERIA = Patch(GenerationMixin, "_get_stopping_criteria", _note_criteria)


@contextmanager
def noting(settings: GenerationConfig | None = None):
    """What the next generate call of this thread tells; others that it makes inside (an assistant's) are left out."""
    noted = Noted(settings)
    _looking.notes = [*getattr(_looking, "notes", []), noted]
    try:
        with _CRITERIA:
            yield noted
    finally:
        _looking.notes = [other for other in _looking.notes if other is not noted]


# --- putting it together -----------------------------------------------------------------------------------------


def make_call(inputs: dict, output, noted: Noted, tokenizer=None, watcher: _StepWatcher | None = None) -> Call:
    """The call from what went in (keywords of `generate`), what it returned, and what was noted meanwhile.

    Without a tokenizer its texts are empty; without `input_ids` (embeddings as inputs) so is its prompt.
    """
    output_ids = output if isinstance(output, torch.Tensor) else output.sequences
    input_ids = inputs.get("input_ids")
    if input_ids is None:
        input_ids = output_ids[:, :0]
    mask = inputs.get("attention_mask")  # of the tokenizer's output, or the caller's keyword
    mask = torch.ones_like(input_ids) if mask is None or mask.shape != input_ids.shape else mask.to(input_ids.device)
    width = input_ids.shape[1]
    copies = output_ids.shape[0] // input_ids.shape[0]  # num_return_sequences
    lined_up = watcher is not None and _lines_up(watcher, output_ids, width, inputs.get("assistant_model"))
    rows = []
    for n in range(output_ids.shape[0]):
        prompt = input_ids[n // copies][mask[n // copies].bool()].tolist()
        new = output_ids[n, width:].tolist()
        end, why = _stop(output_ids[n].tolist(), width, noted.settings, noted.stops)
        rows.append(
            Row(
                prompt_ids=prompt,
                new_ids=new[:end],
                prompt_text=tokenizer.decode(prompt) if tokenizer else "",
                new_text=tokenizer.decode(new[:end], skip_special_tokens=True) if tokenizer else "",
                stopped_by=why,
                steps=_steps(watcher, n, new[:end], tokenizer) if lined_up else [],
            )
        )
    return Call(input_ids.cpu(), mask.cpu(), output_ids.cpu(), noted.settings, rows)


def _lines_up(watcher: _StepWatcher, output_ids: torch.Tensor, width: int, assistant) -> bool:
    """Whether step n of the watcher is new token n of each row; closes the watcher with the last token."""
    watcher.note_chosen(output_ids[:, -1])
    mode = watcher.noted.settings.get_generation_mode(assistant)
    # on an Apple GPU, generate computes one step more than it returns
    steps_match = len(watcher.kept) - (output_ids.shape[1] - width) in (0, 1)
    return steps_match and mode in (GenerationMode.GREEDY_SEARCH, GenerationMode.SAMPLE)


def merged_settings(model, generate_kwargs, width: int) -> GenerationConfig:
    """What generate would make of the settings; only read where transformers did not tell."""
    settings = copy.deepcopy(generate_kwargs.get("generation_config") or model.generation_config)
    for name, value in vars(model.generation_config).items():
        if getattr(settings, name, None) is None:
            setattr(settings, name, copy.deepcopy(value))
    settings.update(**generate_kwargs)
    if settings.max_new_tokens is not None or settings.max_length is None:
        settings.max_length = width + (settings.max_new_tokens or 20)
    return settings


def _end_ids(settings: GenerationConfig) -> list[int]:
    end_ids = settings.eos_token_id
    return [] if end_ids is None else torch.as_tensor(end_ids).flatten().tolist()


def _stop(ids: list[int], width: int, settings: GenerationConfig, stops: dict[tuple, str]) -> tuple[int, str]:
    """How many new ids a row has before its padding, and why it stopped there."""
    end_ids = _end_ids(settings)
    for length in range(width + 1, len(ids) + 1):
        criterion = stops.get(tuple(ids[:length]))
        if ids[length - 1] in end_ids and (criterion or not stops):
            return length - width, "end-of-sequence"
        if criterion:
            return length - width, STOP_NAMES.get(criterion, criterion)
    return len(ids) - width, "length" if len(ids) >= settings.max_length else "unknown"


def _steps(watcher: _StepWatcher, row: int, new: list[int], tokenizer) -> list[Step]:
    steps = []
    for (logs, ids, ending, entropy), chosen, token_id in zip(watcher.kept, watcher.chosen, new, strict=False):
        steps.append(
            Step(
                chosen=Candidate(token_id, tokenizer.decode([token_id]), chosen[row].exp().item()),
                candidates=[
                    Candidate(candidate, tokenizer.decode([candidate]), probability)
                    for candidate, probability in zip(ids[row].tolist(), logs[row].exp().tolist(), strict=True)
                ],
                end_probability=ending[row].item(),
                entropy=entropy[row].item(),
            )
        )
    return steps
