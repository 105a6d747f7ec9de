"""One `generate` call, recorded: what went in, with which settings, what came out, and why it stopped.

    call = record(model, tokenizer, inputs, max_new_tokens=20)
    call.new_text           # the continuation, without the prompt
    call.stopped_by         # "end-of-sequence", "length", "stop-string", "time" or the name of a stopping criterion
    call.steps[0]           # the candidates for the first new token, with their probabilities

The ids are those that `model.generate` returns without the recorder: it only looks, through a `LogitsProcessor`
that returns its input and a `StoppingCriteriaList` that notes which criterion said stop.
"""

import copy
from collections.abc import Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from transformers import GenerationConfig, LogitsProcessor, LogitsProcessorList, StoppingCriteriaList

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


@dataclass(frozen=True)
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


def record(model, tokenizer, inputs, **generate_kwargs) -> Call:
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
    with _noting_criteria(model) as noted:
        noted["settings"] = _merged_settings(model, generate_kwargs)
        watcher = _StepWatcher(noted)
        output = model.generate(**inputs, **generate_kwargs, logits_processor=LogitsProcessorList([*given, watcher]))
    output_ids = output if isinstance(output, torch.Tensor) else output.sequences
    return _call(inputs, output_ids, noted, watcher, tokenizer)


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


class _StepWatcher(LogitsProcessor):
    """Keeps the top candidates of each step. Returns the scores untouched."""

    def __init__(self, noted: dict):
        self.noted = noted
        self.kept: list[tuple[torch.Tensor, ...]] = []  # per step: top log-probabilities, top ids, end, entropy
        self.chosen: list[torch.Tensor] = []  # per step: log-probability of the token that was taken
        self._last: torch.Tensor | None = None

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        self.note_chosen(input_ids[:, -1])
        logs = torch.log_softmax(scores.float(), dim=-1)  # (rows, vocabulary)
        top = logs.topk(min(CANDIDATES, logs.shape[-1]), dim=-1)
        ending = logs[:, _end_ids(self.noted["settings"])].exp().sum(dim=-1)
        entropy = torch.special.entr(logs.exp()).sum(dim=-1) / torch.log(torch.tensor(2.0))
        self.kept.append((top.values, top.indices, ending, entropy))
        self._last = logs
        return scores

    def note_chosen(self, token_ids: torch.Tensor) -> None:
        if self._last is not None and self._last.shape[0] == token_ids.shape[0]:
            self.chosen.append(self._last.gather(1, token_ids[:, None].to(self._last.device))[:, 0])
        self._last = None


class _NotingCriteria(StoppingCriteriaList):
    """The criteria of one call; notes, row by row, the first that said stop and how long the row was then."""

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor, **kwargs) -> torch.Tensor:
        stop = torch.full((input_ids.shape[0],), False, device=input_ids.device, dtype=torch.bool)
        for criterion in self:
            said = criterion(input_ids, scores, **kwargs)
            stop = stop | said
            for row in said.nonzero().flatten().tolist() if torch.is_tensor(said) else []:
                self.noted.setdefault(row, (input_ids.shape[1], type(criterion).__name__))
        return stop


@contextmanager
def _noting_criteria(model):
    """Put `_NotingCriteria` into the model's next generate call; it notes the resolved settings too.

    `_get_stopping_criteria` is private to transformers (seen in 5.0 to 5.23): where it is missing, `_stop` reads the
    reason from the ids, and the settings stay what `_merged_settings` makes of the public ones.
    """
    noted = {"rows": {}}
    original = getattr(model, "_get_stopping_criteria", None)
    if original is None:
        yield noted
        return

    def noting(generation_config, *args, **kwargs):
        criteria = _NotingCriteria(original(generation_config, *args, **kwargs))
        criteria.noted, noted["settings"] = noted["rows"], copy.deepcopy(generation_config)
        return criteria

    before = vars(model).get("_get_stopping_criteria")
    model._get_stopping_criteria = noting
    try:
        yield noted
    finally:
        del model._get_stopping_criteria
        if before is not None:
            model._get_stopping_criteria = before


# --- putting it together -----------------------------------------------------------------------------------------


def _call(inputs: dict, output_ids: torch.Tensor, noted: dict, watcher: "_StepWatcher", tokenizer) -> Call:
    input_ids = inputs["input_ids"]
    mask = inputs.get("attention_mask")
    mask = torch.ones_like(input_ids) if mask is None else mask
    settings = noted["settings"]
    width = input_ids.shape[1]
    copies = output_ids.shape[0] // input_ids.shape[0]  # num_return_sequences
    watcher.note_chosen(output_ids[:, -1])
    beams = (settings.num_beams or 1) > 1  # criteria and processors then see beams, which are not the rows returned
    lined_up = not beams and len(watcher.kept) == len(watcher.chosen) == output_ids.shape[1] - width
    rows = []
    for n in range(output_ids.shape[0]):
        prompt = input_ids[n // copies][mask[n // copies].bool()].tolist()
        new = output_ids[n, width:].tolist()
        end, why = _stop(new, settings, None if beams else noted["rows"].get(n), width)
        steps = _steps(watcher, n, new[:end], tokenizer) if lined_up else []
        rows.append(
            Row(
                prompt_ids=prompt,
                new_ids=new[:end],
                prompt_text=tokenizer.decode(prompt),
                new_text=tokenizer.decode(new[:end], skip_special_tokens=True),
                stopped_by=why,
                steps=steps,
            )
        )
    return Call(input_ids.cpu(), mask.cpu(), output_ids.cpu(), settings, rows)


def _merged_settings(model, generate_kwargs) -> GenerationConfig:
    settings = copy.deepcopy(generate_kwargs.get("generation_config") or model.generation_config)
    settings.update(**generate_kwargs)
    return settings


def _end_ids(settings: GenerationConfig) -> list[int]:
    end_ids = settings.eos_token_id
    return [end_ids] if isinstance(end_ids, int) else list(end_ids or [])


def _stop(new: list[int], settings: GenerationConfig, noted: tuple[int, str] | None, width: int) -> tuple[int, str]:
    """How many of the new ids were generated before the padding, and why the row stopped there."""
    if noted:
        length, criterion = noted
        return length - width, STOP_NAMES.get(criterion, criterion)
    end_ids = _end_ids(settings)
    for position, token_id in enumerate(new):
        if token_id in end_ids:
            return position + 1, "end-of-sequence"
    return len(new), "length" if len(new) >= (settings.max_new_tokens or 20) else "unknown"


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
