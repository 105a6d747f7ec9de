"""`check`: what will go wrong in a generate call that is about to be made.

report = pitfalls.check(model, tokenizer, inputs, max_new_tokens=20)
report.rules            # {"padding-side"}
"""

import logging
from typing import Any

from pitfalls.inspector.call import Call
from pitfalls.inspector.given import inputs_of
from pitfalls.inspector.report import Finding, Report
from pitfalls.inspector.rule import Rule
from pitfalls.inspector.rules import RULES

ENCODER_DECODER = RULES["encoder-decoder"]
_log = logging.getLogger("pitfalls")


def check(model: Any = None, tokenizer: Any = None, inputs: Any = None, /, **generate_kwargs: Any) -> Report:
    """Look at `model.generate(**inputs, **generate_kwargs)` before it is run: no forward pass, about a millisecond.

    `inputs` is what the tokenizer returned (a `BatchEncoding` or a dict), or the tensor of ids alone, shape (rows,
    tokens); the keywords are those you would give to `generate`. Never raises because of them: what `generate` can't
    take is a finding. Rules about the output need `pitfalls.watch`.
    """
    # by position, as `tokenizer` and `inputs` are also names of arguments of generate
    model = generate_kwargs.pop("model", None) if model is None else model
    tokenizer = generate_kwargs.get("tokenizer") if tokenizer is None else tokenizer
    inputs = generate_kwargs.pop("inputs", None) if inputs is None else inputs
    return apply_rules(Call(model, tokenizer, {**inputs_of(inputs), **generate_kwargs}))


def apply_rules(call: Call) -> Report:
    """All findings of all rules on one call. A rule that fails says nothing of it; the log says that it did."""
    rules = [ENCODER_DECODER] if _apply(ENCODER_DECODER, call) else RULES.values()
    return Report(finding for finding in (_apply(rule, call) for rule in rules) if finding)


def _apply(rule: Rule, call: Call) -> Finding | None:
    try:
        return rule(call)
    except Exception as error:
        _log.warning("the rule %s could not look at this call (%s)", rule.name, type(error).__name__)
        _log.debug("the rule %s failed", rule.name, exc_info=True)
        return None
