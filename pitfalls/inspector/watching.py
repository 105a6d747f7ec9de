"""`watch`: every generate call inside a `with` block, recorded and checked, without a change to it.

    with pitfalls.watch(model, tokenizer) as calls:
        model.generate(**inputs)
    calls[-1].report, calls[-1].new_text, calls[-1].stopped_by

It replaces `GenerationMixin.generate` while a block is open, for all threads, and only passes calls on. Where a call
raises, its exception goes up as it is, with a note that explains it.
"""

import inspect
import logging
import sys
import threading
import traceback
from contextlib import ExitStack
from dataclasses import dataclass, field, fields
from html import escape
from types import NoneType
from typing import Any

import torch
from transformers import GenerationConfig, LogitsProcessor, LogitsProcessorList, PreTrainedTokenizerBase
from transformers.generation import GenerationMixin

from pitfalls.inspector.checking import ENCODER_DECODER, apply_rules
from pitfalls.inspector.patching import Patch
from pitfalls.inspector.recording import Call, Noted, make_call, merged_settings, noting
from pitfalls.inspector.report import Report
from pitfalls.inspector.request import Decoded, Request
from pitfalls.inspector.rules import RULES

SAYS = "\npitfalls says:\n"
DECODING_RULES = ("prompt-echo", "special-tokens-kept")
_SIGNATURE = inspect.signature(GenerationMixin.generate)  # now, before anyone replaces it
_log = logging.getLogger("pitfalls")
_inside = threading.local()  # .generate: whether this thread is in a generate call that is being watched
_watchers: list["_Watcher"] = []
_lock = threading.Lock()


@dataclass(frozen=True, eq=False)
class WatchedCall(Call):
    """A call with what the rules say of it. Where it raised, or returned no ids, it has no rows; `steps` are empty."""

    report: Report = field(default_factory=Report)
    error: BaseException | None = None

    def _outcome(self) -> str:
        return f"raised {type(self.error).__name__}" if self.error else super().__repr__() or "no rows"

    def __repr__(self) -> str:
        return f"{self._outcome()}\n{self.report!r}"

    def _repr_html_(self) -> str:
        return f"<pre>{escape(self._outcome())}</pre>{self.report._repr_html_()}"


class Calls(list):
    """The watched calls in the order in which they ended, and in `report` what was found in all of them together."""

    def __init__(self):
        super().__init__()
        self.outside = Report()  # about an exception that left the block, and came from no generate call

    @property
    def report(self) -> Report:
        return Report(finding for report in (self.outside, *(call.report for call in self)) for finding in report)

    def __repr__(self) -> str:
        return "\n".join(f"call {n}: {call!r}" for n, call in enumerate(self)) or "No generate call was seen."

    def _repr_html_(self) -> str:
        return (
            "".join(f"<b>call {n}</b>{call._repr_html_()}" for n, call in enumerate(self))
            or "<em>No generate call was seen.</em>"
        )


class watch:
    """Record and check every `generate` call inside the block.

    `model`: its calls only, also through a pipeline or a wrapper such as PEFT; None for every call in the process.
    `tokenizer`: lets the rules read text; where there is none, that of a pipeline, a streamer or the call is used.
    Nests, and sees all threads; calls that a generate call makes itself (an assistant's) are part of it. An exception
    that leaves the block, from the tokenizer or from loading a model, is explained by a note too.

    Raises `TypeError` for a pipeline or anything else that is no model.
    """

    def __init__(self, model=None, tokenizer=None):
        if model is not None and not isinstance(model, (torch.nn.Module, GenerationMixin)):
            raise TypeError(
                f"watch takes a model; this is a {type(model).__name__}. Give pipe.model of a pipeline, or nothing: "
                "`with pitfalls.watch() as calls` sees every generate call of the process."
            )
        self.watcher = _Watcher(model, tokenizer)
        self.patches: list[ExitStack] = []

    def __enter__(self) -> Calls:
        with _lock:
            _watchers.append(self.watcher)
        patches = ExitStack()
        for patch in (_GENERATE, _DECODE, _BATCH_DECODE):
            patches.enter_context(patch)
        self.patches.append(patches)  # one for each time that this block is open
        return self.watcher.calls

    def __exit__(self, kind, error, trace) -> None:
        self.patches.pop().close()
        with _lock:
            _watchers.remove(self.watcher)
        self.watcher.last = None
        self.watcher.let_go(error)
        if isinstance(error, Exception) and not any(call.error is error for call in self.watcher.calls):
            self.watcher.calls.outside = apply_rules(Request(tokenizer=self.watcher.tokenizer, error=error))
            _explain(error, self.watcher.calls.outside)


class _Watcher:
    def __init__(self, model, tokenizer):
        self.model, self.tokenizer, self.calls = model, tokenizer, Calls()
        self.last: tuple[Request, Report] | None = None  # for what is decoded after its call

    def sees(self, model) -> bool:
        if self.model is None or self.model is model:
            return True
        return isinstance(self.model, torch.nn.Module) and any(module is model for module in self.model.modules())

    def let_go(self, leaving: BaseException | None = None) -> None:
        """Free what the tracebacks of errors hold on to: the cache and the logits of calls that raised.

        Not those of the error that leaves the block, which a debugger may want to look into.
        """
        for call in list(self.calls):
            error = call.error
            while error is not None and call.error is not leaving:
                traceback.clear_frames(error.__traceback__)
                error = error.__context__

    def report_of(self, error: BaseException) -> Report:
        return next((call.report for call in reversed(self.calls) if call.error is error), Report())

    def keep(self, request: Request, output: Any, noted: Noted) -> None:
        """Add the call and its report to `calls`. Whatever goes wrong here stays here."""
        try:
            request.call = None if request.error else _call(request, output, noted)
        except Exception:
            _log.debug("the rows of a call could not be read", exc_info=True)
        try:
            report = apply_rules(request)
            call = request.call or _no_call(request, noted)
            parts = (getattr(call, part.name) for part in fields(Call))
            self.calls.append(WatchedCall(*parts, report=report, error=request.error))
            self.last = (request, report) if request.call else None
            for heavy in ("past_key_values", "inputs_embeds", "pixel_values"):
                request.arguments.pop(heavy, None)
        except Exception:
            _log.debug("a call could not be recorded", exc_info=True)


class _NanWatcher(LogitsProcessor):
    """Notes the rows of which a logit is NaN, on the model's own device. Returns the scores untouched."""

    def __init__(self):
        self.rows: torch.Tensor | None = None

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        bad = scores.isnan().any(dim=-1)
        self.rows = bad if self.rows is None or self.rows.shape != bad.shape else self.rows | bad
        return scores


def _watched_generate(original, /, *args, **kwargs):
    model = args[0] if args else kwargs.get("self")
    watchers = [watcher for watcher in dict.fromkeys(_watchers) if watcher.sees(model)]
    if not watchers or getattr(_inside, "generate", False):
        return original(*args, **kwargs)
    for watcher in watchers:
        watcher.let_go()
    pipeline, asked = _pipeline()
    arguments = _arguments(args, kwargs)
    found = _tokenizer_of(arguments, pipeline)
    requests = [Request(model, watcher.tokenizer or found, arguments, asked) for watcher in watchers]
    for request in requests:
        request.read_inputs()
    _say_what_is_fatal(requests[0])
    nan = _NanWatcher()
    args, kwargs = _with_processor(args, kwargs, nan)
    output = error = None
    _inside.generate = True
    try:
        with noting() as noted:
            output = original(*args, **kwargs)
        return output
    except BaseException as raised:
        error = raised
        raise
    finally:
        _inside.generate = False
        for watcher, request in zip(watchers, requests, strict=True):
            request.error, request.nan_rows = error, _nan_rows(nan)
            watcher.keep(request, output, noted)
        if error is not None:
            _explain(error, watchers[0].report_of(error))


def _say_what_is_fatal(request: Request) -> None:
    """Now, in the log: a call that ends the process leaves nobody to read a report."""
    try:
        finding = RULES["empty-prompt"](request)
        if finding and finding.severity == "error":
            _log.error("%s: %s", finding.rule, finding.message)
    except Exception:
        _log.debug("a call could not be looked at", exc_info=True)


def _call(request: Request, output: Any, noted: Noted) -> Call | None:
    """The recorded call; None where generate returned something without ids, or has an encoder."""
    if ENCODER_DECODER(request) or not isinstance(getattr(output, "sequences", output), torch.Tensor):
        return None
    inputs = {**request.arguments, "input_ids": request.input_ids}
    if not noted.told:
        noted.settings = merged_settings(request.model, request.arguments, request.width)
    return make_call(inputs, output, noted, request.tokenizer)


def _no_call(request: Request, noted: Noted) -> Call:
    ids = request.input_ids if request.input_ids is not None else torch.empty((0, 0), dtype=torch.long)
    return Call(ids.cpu(), torch.ones_like(ids).cpu(), ids[:0].cpu(), noted.settings or GenerationConfig(), [])


def _explain(error: BaseException, report: Report) -> None:
    """Add the report to the exception's notes, once; Python 3.10 does not show notes, so there it is printed too."""
    if not len(report) or any(note.startswith(SAYS) for note in getattr(error, "__notes__", [])):
        return
    try:
        note = f"{SAYS}{report}"
        if hasattr(error, "add_note"):
            error.add_note(note)
        else:
            error.__notes__ = [*getattr(error, "__notes__", []), note]
            print(note, file=sys.stderr)
    except Exception:
        _log.debug("an exception could not be explained", exc_info=True)


def _arguments(args: tuple, kwargs: dict) -> dict:
    """All arguments by their names, without the model; those that were left out are left out."""
    try:
        bound = _SIGNATURE.bind(*args, **kwargs).arguments
    except TypeError:  # generate is about to say so itself
        return dict(kwargs)
    bound.update(bound.pop("kwargs", {}))
    bound.pop("self", None)
    return {name: value for name, value in bound.items() if name != "custom_generate" or value is not None}


def _with_processor(args: tuple, kwargs: dict, processor: LogitsProcessor) -> tuple[tuple, dict]:
    """The same arguments with one more logits processor: the fourth positional one of `generate`, or a keyword."""
    given = args[3] if len(args) > 3 else kwargs.get("logits_processor")
    if kwargs.get("custom_generate") is not None or not isinstance(given, (list, tuple, NoneType)):
        return args, kwargs  # what is no list of processors, generate is about to refuse
    more = LogitsProcessorList([*(given or []), processor])
    return ((*args[:3], more, *args[4:]), kwargs) if len(args) > 3 else (args, {**kwargs, "logits_processor": more})


def _nan_rows(nan: _NanWatcher) -> list[int]:
    try:
        return [] if nan.rows is None else nan.rows.nonzero().flatten().tolist()
    except Exception:  # a GPU that failed answers nothing any more
        return []


def _frames():
    frame = sys._getframe(1)
    while frame := frame.f_back:
        yield frame, frame.f_globals.get("__name__", "")


def _pipeline() -> tuple[Any, set[str] | None]:
    """The text-generation pipeline that made this call, and the settings that its caller gave; else (None, None)."""
    pipeline, asked = None, None
    for frame, module in _frames():
        if module != "transformers.pipelines.text_generation":
            continue
        pipeline = frame.f_locals.get("self")
        asked = set(getattr(pipeline, "_generate_kwargs", {}))
        if frame.f_code.co_name == "__call__":
            given = frame.f_locals.get("kwargs", {})
            config = given.get("generation_config")
            of_config = config.to_diff_dict() if isinstance(config, GenerationConfig) else ()
            return pipeline, asked | set(given) | set(of_config)
    return pipeline, asked


def _tokenizer_of(arguments: dict, pipeline):
    for place in (pipeline, arguments.get("streamer")):
        if isinstance(getattr(place, "tokenizer", None), PreTrainedTokenizerBase):
            return place.tokenizer
    return arguments.get("tokenizer")


def _watched_decode(original, /, *args, **kwargs):
    if not _watchers or getattr(_inside, "decode", False):
        return original(*args, **kwargs)
    _inside.decode = True  # decoding a batch decodes its rows, and so do the rules
    try:
        text = original(*args, **kwargs)
        _look_at_decoding(*args, **kwargs)
        return text
    finally:
        _inside.decode = False


def _look_at_decoding(self, token_ids=None, skip_special_tokens=None, sequences=None, **kwargs) -> None:
    """Let the rules about decoding look at the latest call: by the caller, not by a pipeline, a streamer or a rule."""
    caller = next((module for _, module in _frames() if module not in (__name__, "pitfalls.inspector.patching")), "")
    if caller.startswith(("transformers.", "pitfalls.")):
        return
    try:
        ids = _lists(token_ids if token_ids is not None else sequences)
        if not isinstance(ids, list) or not ids:
            return
        for watcher in list(_watchers):
            request, report = watcher.last or (None, None)
            if request is None or request.tokenizer is not self:
                continue
            for row in ids if isinstance(ids[0], list) else [ids]:
                request.decoded = Decoded(row, skip_special_tokens)
                for finding in filter(None, (RULES[name](request) for name in DECODING_RULES)):
                    report.add(finding)
    except Exception:
        _log.debug("a decoding could not be looked at", exc_info=True)


def _lists(ids):
    """Ids as lists, where they are tensors or arrays, or lists of those."""
    ids = ids.tolist() if hasattr(ids, "tolist") else ids
    return [_lists(row) for row in ids] if isinstance(ids, (list, tuple)) else ids


_GENERATE = Patch(GenerationMixin, "generate", _watched_generate)
_DECODE = Patch(PreTrainedTokenizerBase, "decode", _watched_decode)
_BATCH_DECODE = Patch(PreTrainedTokenizerBase, "batch_decode", _watched_decode)
