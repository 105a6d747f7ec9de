"""What is heard of a generate call while it runs: each step's candidates, NaN among the logits, the caller's criteria.

Everything goes through public arguments of `generate`: one more `LogitsProcessor`, which returns the scores untouched,
and the caller's own stopping criteria, each in a wrapper that notes for which rows it said stop.
"""

import math
from typing import Any

import torch
from transformers import LogitsProcessor, LogitsProcessorList, StoppingCriteria, StoppingCriteriaList
from transformers.generation import GenerationMode

from pitfalls.inspector.call import Call
from pitfalls.inspector.rows import STOP_NAMES

CANDIDATES = 10  # kept of each step; the whole vocabulary would be 200 kB a step for SmolLM2
PROCESSORS, CRITERIA = 3, 4  # their places among the arguments of `generate`, the model's own included
Arguments = tuple[Any, ...]
Keywords = dict[str, Any]


class Heard:
    """What one call told. `join` gives its arguments with the listeners in them."""

    def __init__(self, call: Call):
        mode = call.settings.get_generation_mode(call.arguments.get("assistant_model"))
        lines_up = mode in (GenerationMode.GREEDY_SEARCH, GenerationMode.SAMPLE)
        self.processor = _Listener(call.end_ids, lines_up)
        self.votes: dict[int, str] = {}  # hash of a row's ids: the criterion that said stop for it
        self.answered_for_all: set[str] = set()  # criteria that said so for several rows by one answer

    @classmethod
    def of(cls, call: Call) -> "Heard | None":
        """None for settings that can't be read: generate is about to say so itself."""
        try:
            return cls(call)
        except Exception:
            return None

    def join(self, args: Arguments, kwargs: Keywords) -> tuple[Arguments, Keywords]:
        """The arguments of a call with one more processor, and the caller's criteria wrapped."""
        if kwargs.get("custom_generate") is not None:
            return args, kwargs
        processors = args[PROCESSORS] if len(args) > PROCESSORS else kwargs.get("logits_processor")
        if processors is None or isinstance(processors, (list, tuple)):  # what is no list, generate is about to refuse
            more = LogitsProcessorList([*(processors or []), self.processor])
            args, kwargs = _replaced(args, kwargs, PROCESSORS, "logits_processor", more)
        criteria = args[CRITERIA] if len(args) > CRITERIA else kwargs.get("stopping_criteria")
        if isinstance(criteria, (list, tuple)) and criteria:
            # of a type of its own, generate puts the caller's in the place of its own: those stay as they are
            wrapped = [each if type(each) in STOP_NAMES else _Vote(each, self) for each in criteria]
            args, kwargs = _replaced(args, kwargs, CRITERIA, "stopping_criteria", StoppingCriteriaList(wrapped))
        return args, kwargs

    def steps(self, output_ids: torch.Tensor, width: int) -> torch.Tensor | None:
        """(new tokens, rows, 3 + 2 candidates) on the CPU: log-probability of the taken token, probability of an end,
        entropy, log-probabilities and ids of the candidates. None where steps and rows do not line up."""
        return self.processor.steps(output_ids, width)

    @property
    def nan_rows(self) -> list[int]:
        """Rows, of all beams, for which a logit was not a number."""
        try:
            return [] if self.processor.nan is None else self.processor.nan.nonzero().flatten().tolist()
        except Exception:  # a GPU that failed answers nothing any more
            return []


def _replaced(args: Arguments, kwargs: Keywords, place: int, name: str, value: Any) -> tuple[Arguments, Keywords]:
    if len(args) > place:
        return (*args[:place], value, *args[place + 1 :]), kwargs
    return args, {**kwargs, name: value}


class _Vote(StoppingCriteria):
    """A criterion of the caller; notes the ids of the rows for which it said stop."""

    def __init__(self, criterion: StoppingCriteria, heard: Heard):
        self.criterion, self.votes, self.answered_for_all = criterion, heard.votes, heard.answered_for_all

    def __getattr__(self, name: str) -> Any:
        """`generate` pads rows that have ended only where a criterion has `eos_token_id`."""
        if name == "criterion":
            raise AttributeError(name)
        return getattr(self.criterion, name)

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor, **kwargs: Any) -> Any:
        said = self.criterion(input_ids, scores, **kwargs)
        stopped = torch.zeros(len(input_ids), dtype=torch.bool, device=input_ids.device) | said  # it may be one bool
        for ids in input_ids[stopped].tolist():
            self.votes.setdefault(hash(tuple(ids)), type(self.criterion).__name__)
        if len(input_ids) > 1 and torch.as_tensor(said).numel() == 1 and stopped.any():
            self.answered_for_all.add(type(self.criterion).__name__)
        return said


class _Listener(LogitsProcessor):
    """Keeps the top candidates of each step in one growing tensor, on the model's own device."""

    def __init__(self, end_ids: list[int], lines_up: bool):
        self.end_ids, self.lines_up = end_ids, lines_up
        self.nan: torch.Tensor | None = None
        self.kept: torch.Tensor | None = None  # (room, rows, 3 + 2 candidates), see `Heard.steps`
        self.count = 0
        self._last: torch.Tensor | None = None  # log-probabilities of the latest step

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        try:
            bad = scores.isnan().any(dim=-1)
            self.nan = bad if self.nan is None or self.nan.shape != bad.shape else self.nan | bad
            if self.lines_up:
                self._note_chosen(input_ids)
                self._note_candidates(scores)
        except Exception:  # whatever stands in the way of listening does not stand in the way of the call
            self.lines_up, self.kept, self._last = False, None, None
        return scores

    def _note_candidates(self, scores: torch.Tensor) -> None:
        logs = torch.log_softmax(scores.float(), dim=-1)  # (rows, vocabulary)
        top = logs.topk(min(CANDIDATES, logs.shape[-1]), dim=-1)
        end_ids = [end_id for end_id in self.end_ids if 0 <= end_id < logs.shape[-1]]
        ending = logs[:, end_ids].exp().sum(dim=-1, keepdim=True)
        entropy = torch.special.entr(logs.exp()).sum(dim=-1, keepdim=True) / math.log(2)
        # float32 holds every id up to 16,777,216
        step = torch.cat([torch.zeros_like(ending), ending, entropy, top.values, top.indices.float()], dim=-1)
        if self.kept is None:
            self.kept = step.new_empty((16, *step.shape))
        elif self.count == len(self.kept):
            self.kept = torch.cat([self.kept, torch.empty_like(self.kept)])
        self.kept[self.count] = step
        self.count += 1
        self._last = logs

    def _note_chosen(self, ids: torch.Tensor) -> None:
        """The last of the ids (rows, tokens) are what was taken at the latest step."""
        if self._last is not None and self.kept is not None and len(self._last) == len(ids):
            self.kept[self.count - 1, :, 0] = self._last.gather(1, ids[:, -1:].to(self._last.device))[:, 0]
        self._last = None

    def steps(self, output_ids: torch.Tensor, width: int) -> torch.Tensor | None:
        self._note_chosen(output_ids)
        new = output_ids.shape[1] - width
        # on an Apple GPU, generate computes one step more than it returns
        if self.kept is None or self.count - new not in (0, 1) or self.kept.shape[1] != len(output_ids):
            return None
        return self.kept[:new].cpu()
