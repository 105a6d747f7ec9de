"""`watch`: every generate call inside a `with` block, recorded and checked, without a change to it.

    with pitfalls.watch(model, tokenizer) as calls:
        model.generate(**inputs)
    calls[-1].report, calls[-1].new_text, calls[-1].stopped_by

`GenerationMixin.generate` passes through here while a block is open, for all threads, and is only passed on. Where a
call raises, its exception goes up as it is, with a note that explains it.
"""

import functools
import inspect
import logging
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from types import TracebackType
from typing import Any

import torch
from transformers import GenerationConfig, PreTrainedTokenizerBase
from transformers.generation import GenerationMixin

from pitfalls.inspector.call import Call
from pitfalls.inspector.checking import apply_rules, selected
from pitfalls.inspector.given import is_pipeline
from pitfalls.inspector.importing import Awaited
from pitfalls.inspector.listening import Heard
from pitfalls.inspector.patching import Patch
from pitfalls.inspector.rules import RULES
from pitfalls.inspector.rules.lengths import in_4_bit_on_a_cpu
from pitfalls.inspector.tokenizer_calls import ENCODINGS, TOKENIZER_CALLS, conversations_of, failed_template
from pitfalls.inspector.tokenizing import frames_of_caller, place, whose
from pitfalls.inspector.watcher import INSIDE, LOCK, WATCHERS, Calls, Watcher, conclude, explain, looking
from pitfalls.language import _

PIPELINES = "transformers.pipelines.base"
_SIGNATURE = inspect.signature(GenerationMixin.generate)  # now, before anyone replaces it
_log = logging.getLogger("pitfalls")


class watch:
    """Record and check every `generate` call inside the block.

    `model`: its calls only, also through a pipeline or a wrapper such as PEFT; a pipeline stands for its model and its
    tokenizer; None for every call in the process.
    `tokenizer`: lets the rules read text. Where there is none, it is that of a pipeline, a streamer or the call, the
    one that made the ids, or one among the names in the code that called; none at all where that is not certain.
    `only`, `ignore`: names of rules.
    Nests, and sees all threads; calls that a generate call makes itself (an assistant's) are part of it. An exception
    that leaves the block, from the tokenizer or from loading a model, is explained by a note too.

    Raises `TypeError` for what is no model and no pipeline, `ValueError` for a name that no rule has.
    """

    def __init__(
        self,
        model: Any = None,
        tokenizer: Any = None,
        *,
        only: str | Iterable[str] = (),
        ignore: str | Iterable[str] = (),
    ):
        if is_pipeline(model):
            model, tokenizer = model.model, tokenizer or model.tokenizer
        if model is not None and not isinstance(model, (torch.nn.Module, GenerationMixin)):
            raise TypeError(
                _(
                    "watch takes a model or a pipeline; this is a {type}. Or give nothing: "
                    "`with pitfalls.watch() as calls` sees every generate call of the process.",
                    type=type(model).__name__,
                )
            )
        self.watcher = Watcher(model, tokenizer, selected(only, ignore))
        self.open: list[ExitStack] = []  # one for each time that this block is open

    def __enter__(self) -> Calls:
        self.open.append(ExitStack())
        self.open[-1].enter_context(_pipelines())
        return self.open[-1].enter_context(watching(self.watcher))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.open.pop().close()
        self.watcher.recent.clear()
        self.watcher.let_go(error)
        if isinstance(error, Exception) and not any(call.error is error for call in self.watcher.calls):
            with looking():
                tokenizer, conversations = failed_template(error)
                call = Call(tokenizer=tokenizer or self.watcher.tokenizer, error=error, conversations=conversations)
                self.watcher.calls.outside = apply_rules(call, self.watcher.rules)
                explain(error, self.watcher.calls.outside)


@contextmanager
def watching(watcher: Watcher) -> Iterator[Calls]:
    """Let the watcher see every generate call, and every call of a tokenizer, while the block is open."""
    with ExitStack() as patches:
        for patch in (_GENERATE, *TOKENIZER_CALLS):
            patches.enter_context(patch)
        with LOCK:
            WATCHERS.append(watcher)
        try:
            yield watcher.calls
        finally:
            with LOCK:
                WATCHERS.remove(watcher)
                if not WATCHERS:
                    ENCODINGS.clear()


def _watched_generate(original: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
    __tracebackhide__ = True
    model = args[0] if args else kwargs.get("self")
    watchers = [watcher for watcher in dict.fromkeys(WATCHERS) if watcher.sees(model)]
    if not watchers or getattr(INSIDE, "generate", False):
        return original(*args, **kwargs)
    try:
        with looking():
            calls, heard = _prepared(watchers, model, _arguments(args, kwargs))
        listened = heard.join(args, kwargs) if heard else (args, kwargs)
    except Exception:  # whatever stands in the way of watching does not stand in the way of the call
        _log.debug("a call could not be watched", exc_info=True)
        return original(*args, **kwargs)
    output = error = None
    INSIDE.generate = True
    try:
        output = original(*listened[0], **listened[1])
        return output
    except BaseException as raised:
        error = raised
        raise
    finally:
        INSIDE.generate = False
        with looking():
            for watcher, call in zip(watchers, calls, strict=True):
                conclude(call, output, error, heard, watcher.rules)
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
    pipeline, asked = getattr(INSIDE, "pipeline", (None, None))
    frames = frames_of_caller()
    call = Call(model, watcher.tokenizer or _tokenizer_of(arguments, pipeline), arguments, asked, place=place(frames))
    call.read_inputs()
    if call.tokenizer is None:
        call.tokenizer = whose(ENCODINGS, call, frames)
    call.conversations = conversations_of(call)
    return call


def _say_what_is_fatal(call: Call) -> None:
    """Now, in the log: a call that ends the process leaves nobody to read a report."""
    try:
        finding = RULES["empty-prompt"](call) if in_4_bit_on_a_cpu(call.model) else None
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
def _forward() -> Patch:
    """While it is open, a thread knows the pipeline that it is in; `forward` also runs for results one by one."""
    return Patch(sys.modules[PIPELINES].Pipeline, "forward", _watched_pipeline)


@contextmanager
def _pipelines() -> Iterator[None]:
    """Look into pipelines from when they are imported: that takes a third of a second, and many do without."""
    with ExitStack() as block:
        awaited = Awaited(PIPELINES, lambda: block.enter_context(_forward()))
        try:
            yield
        finally:
            awaited.cancel()


def _watched_pipeline(original: Callable[..., Any], pipeline: Any, inputs: Any, /, **kwargs: Any) -> Any:
    __tracebackhide__ = True
    before = getattr(INSIDE, "pipeline", (None, None))
    config = kwargs.get("generation_config")
    of_config = config.to_diff_dict() if isinstance(config, GenerationConfig) else ()
    made_with = getattr(pipeline, "_generate_kwargs", ())  # private to transformers: what its maker asked for
    fills_in = getattr(pipeline, "task", None) == "text-generation"  # settings that nobody asked for
    INSIDE.pipeline = pipeline, {*made_with, *kwargs, *of_config} if fills_in else None
    try:
        return original(pipeline, inputs, **kwargs)
    finally:
        INSIDE.pipeline = before


_GENERATE = Patch(GenerationMixin, "generate", _watched_generate)
