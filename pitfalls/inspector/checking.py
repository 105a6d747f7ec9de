"""`check`: what will go wrong in a generate call that is about to be made.

report = pitfalls.check(model, tokenizer, inputs, max_new_tokens=20)
report.rules            # {"padding-side"}
"""

import difflib
import logging
from collections.abc import Iterable, Mapping
from typing import Any

from transformers import PreTrainedTokenizerBase

from pitfalls.inspector.call import Call
from pitfalls.inspector.given import inputs_of, is_pipeline
from pitfalls.inspector.report import Finding, Report
from pitfalls.inspector.rule import Rule
from pitfalls.inspector.rules import RULES
from pitfalls.language import _

OF_WHOLE_TEXTS = {  # rules about the form of a text, whose beginning may lie in a cache
    "double-bos", "empty-prompt", "foreign-markers", "generation-prompt", "handwritten-template", "missing-bos",
    "prompt-template", "special-tokens-as-text", "template-on-base-model", "trailing-space", "truncated-prompt",
}  # fmt: skip
_log = logging.getLogger("pitfalls")


def check(
    model: Any = None,
    tokenizer: Any = None,
    inputs: Any = None,
    /,
    *,
    only: str | Iterable[str] = (),
    ignore: str | Iterable[str] = (),
    **generate_kwargs: Any,
) -> Report:
    """Look at `model.generate(**inputs, **generate_kwargs)` before it is run: no forward pass, about a millisecond.

    `inputs` is what the tokenizer returned (a `BatchEncoding` or a dict), or the tensor of ids alone, shape (rows,
    tokens); the keywords are those you would give to `generate`. Never raises because of them: what `generate` can't
    take is a finding. Rules about the output need `pitfalls.watch`. `only` and `ignore`: names of rules.

    Raises `ValueError` for a name in `only` or `ignore` that no rule has.
    """
    rules = selected(only, ignore)
    # by position, as `tokenizer` and `inputs` are also names of arguments of generate
    model = generate_kwargs.pop("model", None) if model is None else model
    if isinstance(model, PreTrainedTokenizerBase):  # the wrong way round
        model, tokenizer = tokenizer, model
    if is_pipeline(model):
        model, tokenizer = model.model, tokenizer or model.tokenizer
    tokenizer = generate_kwargs.get("tokenizer") if tokenizer is None else tokenizer
    inputs = generate_kwargs.pop("inputs", None) if inputs is None else inputs
    return apply_rules(Call(model, tokenizer, {**inputs_of(inputs), **generate_kwargs}), rules)


def selected(only: str | Iterable[str] = (), ignore: str | Iterable[str] = ()) -> dict[str, Rule]:
    """The rules named in `only`, or all, without those in `ignore`: a name, or several.

    Raises `ValueError` for a name that no rule has, with the nearest one.
    """
    wanted, unwanted = _names(only), _names(ignore)
    return {name: rule for name, rule in RULES.items() if (not wanted or name in wanted) and name not in unwanted}


def _names(given: str | Iterable[str]) -> set[str]:
    names = {name.strip().replace("_", "-") for name in ([given] if isinstance(given, str) else given)}
    for name in sorted(names - set(RULES)):
        raise ValueError(no_such_rule(name))
    return names


def no_such_rule(name: str) -> str:
    """What to say of a name that no rule has."""
    near = difflib.get_close_matches(name, RULES, n=1, cutoff=0.4)
    hint = _("Did you mean {near!r}?", near=near[0]) if near else _("`python -m pitfalls rules` lists them all.")
    return _("There is no rule {name!r}.", name=name) + f" {hint}"


def apply_rules(call: Call, rules: Mapping[str, Rule] = RULES) -> Report:
    """All findings of the rules on one call. A rule that fails says nothing of it; the log says that it did."""
    skipped = OF_WHOLE_TEXTS if call.continues else ()
    fitting = (rule for rule in rules.values() if rule.name not in skipped and (rule.encoders or not call.has_encoder))
    return Report(filter(None, (_apply(rule, call) for rule in fitting)))


def _apply(rule: Rule, call: Call) -> Finding | None:
    try:
        return rule(call)
    except Exception as error:
        _log.warning("the rule %s could not look at this call (%s)", rule.name, type(error).__name__)
        _log.debug("the rule %s failed", rule.name, exc_info=True)
        return None
