"""`watch`: every generate call inside a `with` block, recorded and checked, without a change to it.

    with pitfalls.watch(model, tokenizer) as calls:
        model.generate(**inputs)
    calls[-1].report, calls[-1].new_text, calls[-1].stopped_by

It replaces `GenerationMixin.generate` while a block is open, for all threads, and only passes calls on. Where a call
raises, its exception goes up as it is, with a note that explains it.
"""

import functools
import inspect
import logging
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from types import TracebackType
from typing import Any

import torch
from transformers import GenerationConfig, PreTrainedTokenizerBase
from transformers.generation import GenerationMixin

from pitfalls.inspector.call import Call, Decoded
from pitfalls.inspector.checking import apply_rules
from pitfalls.inspector.listening import Heard
from pitfalls.inspector.patching import Patch
from pitfalls.inspector.rules import RULES
from pitfalls.inspector.watcher import Calls, Watcher, conclude, explain

DECODING_RULES = ("prompt-echo", "special-tokens-kept")
_SIGNATURE = inspect.signature(GenerationMixin.generate)  # now, before anyone replaces it
_log = logging.getLogger("pitfalls")
_inside = threading.local()  # .generate, .decode: whether this thread is in one that is watched; .pipeline: its own
_watchers: list[Watcher] = []
_lock = threading.Lock()


class watch:
    """Record and check every `generate` call inside the block.

    `model`: its calls only, also through a pipeline or a wrapper such as PEFT; None for every call in the process.
    `tokenizer`: lets the rules read text; where there is none, that of a pipeline, a streamer or the call is used.
    A `generate` that was bound before the block (`ask = model.generate`) is not seen.
    Nests, and sees all threads; calls that a generate call makes itself (an assistant's) are part of it. An exception
    that leaves the block, from the tokenizer or from loading a model, is explained by a note too.

    Raises `TypeError` for a pipeline or anything else that is no model.
    """

    def __init__(self, model: Any = None, tokenizer: Any = None):
        if model is not None and not isinstance(model, (torch.nn.Module, GenerationMixin)):
            raise TypeError(
                f"watch takes a model; this is a {type(model).__name__}. Give pipe.model of a pipeline, or nothing: "
                "`with pitfalls.watch() as calls` sees every generate call of the process."
            )
        self.watcher = Watcher(model, tokenizer)
        self.open: list[ExitStack] = []  # one for each time that this block is open

    def __enter__(self) -> Calls:
        self.open.append(ExitStack())
        self.open[-1].enter_context(_pipelines())
        return self.open[-1].enter_context(watching(self.watcher))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.open.pop().close()
        self.watcher.last = None
        self.watcher.let_go(error)
        if isinstance(error, Exception) and not any(call.error is error for call in self.watcher.calls):
            self.watcher.calls.outside = apply_rules(Call(tokenizer=self.watcher.tokenizer, error=error))
            explain(error, self.watcher.calls.outside)


@contextmanager
def watching(watcher: Watcher) -> Iterator[Calls]:
    """Let the watcher see every generate call and every decoding while the block is open."""
    with _GENERATE, _DECODE, _BATCH_DECODE:
        with _lock:
            _watchers.append(watcher)
        try:
            yield watcher.calls
        finally:
            with _lock:
                _watchers.remove(watcher)


def _watched_generate(original: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
    model = args[0] if args else kwargs.get("self")
    watchers = [watcher for watcher in dict.fromkeys(_watchers) if watcher.sees(model)]
    if not watchers or getattr(_inside, "generate", False):
        return original(*args, **kwargs)
    try:
        calls, heard = _prepared(watchers, model, _arguments(args, kwargs))
        listened = heard.join(args, kwargs) if heard else (args, kwargs)
    except Exception:  # whatever stands in the way of watching does not stand in the way of the call
        _log.debug("a call could not be watched", exc_info=True)
        return original(*args, **kwargs)
    output = error = None
    _inside.generate = True
    try:
        output = original(*listened[0], **listened[1])
        return output
    except BaseException as raised:
        error = raised
        raise
    finally:
        _inside.generate = False
        for watcher, call in zip(watchers, calls, strict=True):
            conclude(call, output, error, heard)
            watcher.keep(call)
        if error is not None:
            explain(error, watchers[0].report_of(error))


def _prepared(watchers: list[Watcher], model: Any, arguments: dict[str, Any]) -> tuple[list[Call], Heard | None]:
    for watcher in watchers:
        watcher.let_go()
    calls = [_call(watcher, model, arguments) for watcher in watchers]
    _say_what_is_fatal(calls[0])
    return calls, Heard.of(calls[0])


def _call(watcher: Watcher, model: Any, arguments: dict[str, Any]) -> Call:
    """The call as it is asked for, its ids and its mask read before it is made."""
    pipeline, asked = getattr(_inside, "pipeline", (None, None))
    call = Call(model, watcher.tokenizer or _tokenizer_of(arguments, pipeline), arguments, asked)
    call.read_inputs()
    return call


def _say_what_is_fatal(call: Call) -> None:
    """Now, in the log: a call that ends the process leaves nobody to read a report."""
    try:
        finding = RULES["empty-prompt"](call)
        if finding and finding.severity == "error":
            _log.error("%s: %s", finding.rule, finding.message)
    except Exception:
        _log.debug("a call could not be looked at", exc_info=True)


def _arguments(args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """All arguments by their names, without the model; those that were left out are left out."""
    try:
        bound = _SIGNATURE.bind(*args, **kwargs).arguments
    except TypeError:  # generate is about to say so itself
        return dict(kwargs)
    bound.update(bound.pop("kwargs", {}))
    bound.pop("self", None)
    return {name: value for name, value in bound.items() if name != "custom_generate" or value is not None}


def _tokenizer_of(arguments: dict[str, Any], pipeline: Any) -> Any:
    place: Any
    for place in (pipeline, arguments.get("streamer")):
        if isinstance(getattr(place, "tokenizer", None), PreTrainedTokenizerBase):
            return place.tokenizer
    return arguments.get("tokenizer")


# --- pipelines ---------------------------------------------------------------------------------------------------


@functools.cache
def _pipelines() -> Patch:
    """While it is open, a thread knows the pipeline that it is in; `forward` also runs for results one by one."""
    from transformers import Pipeline  # a third of a second, and `record` does without it

    return Patch(Pipeline, "forward", _watched_pipeline)


def _watched_pipeline(original: Callable[..., Any], pipeline: Any, inputs: Any, /, **kwargs: Any) -> Any:
    before = getattr(_inside, "pipeline", (None, None))
    config = kwargs.get("generation_config")
    of_config = config.to_diff_dict() if isinstance(config, GenerationConfig) else ()
    made_with = getattr(pipeline, "_generate_kwargs", ())  # private to transformers: what its maker asked for
    fills_in = getattr(pipeline, "task", None) == "text-generation"  # settings that nobody asked for
    _inside.pipeline = pipeline, {*made_with, *kwargs, *of_config} if fills_in else None
    try:
        return original(pipeline, inputs, **kwargs)
    finally:
        _inside.pipeline = before


# --- decoding ----------------------------------------------------------------------------------------------------


def _watched_decode(original: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
    if not _watchers or getattr(_inside, "decode", False):
        return original(*args, **kwargs)
    _inside.decode = True  # decoding a batch decodes its rows, and so do the rules
    try:
        text = original(*args, **kwargs)
        _look_at_decoding(*args, **kwargs)
        return text
    finally:
        _inside.decode = False


def _look_at_decoding(
    self: Any, token_ids: Any = None, skip_special_tokens: bool | None = None, sequences: Any = None, **kwargs: Any
) -> None:
    """Let the rules about decoding look at the latest call: by the caller, not by a pipeline, a streamer or a rule."""
    if _caller().startswith(("transformers.", "pitfalls.")):
        return
    try:
        ids = _lists(token_ids if token_ids is not None else sequences)
        if not isinstance(ids, list) or not ids:
            return
        for call in [watcher.last for watcher in _watchers]:
            if call is None or call.tokenizer is not self:
                continue
            for row in ids if isinstance(ids[0], list) else [ids]:
                call.decoded = Decoded(row, skip_special_tokens)
                for finding in filter(None, (RULES[name](call) for name in DECODING_RULES)):
                    call.report.add(finding)
    except Exception:
        _log.debug("a decoding could not be looked at", exc_info=True)


def _caller() -> str:
    """The module from which the decoding was asked for."""
    frame = sys._getframe(1)
    while frame.f_back and frame.f_globals.get("__name__") in (__name__, Patch.__module__):
        frame = frame.f_back
    return str(frame.f_globals.get("__name__", ""))


def _lists(ids: Any) -> Any:
    """Ids as lists, where they are tensors or arrays, or lists of those."""
    ids = ids.tolist() if hasattr(ids, "tolist") else ids
    return [_lists(row) for row in ids] if isinstance(ids, (list, tuple)) else ids


_GENERATE = Patch(GenerationMixin, "generate", _watched_generate)
_DECODE = Patch(PreTrainedTokenizerBase, "decode", _watched_decode)
_BATCH_DECODE = Patch(PreTrainedTokenizerBase, "batch_decode", _watched_decode)
