"""`check`: what will go wrong in a generate call that is about to be made.

report = pitfalls.check(model, tokenizer, inputs, max_new_tokens=20)
report.rules            # {"padding-side"}
"""

import logging

from pitfalls.inspector.report import Report
from pitfalls.inspector.request import Request, inputs_of
from pitfalls.inspector.rule import Rule
from pitfalls.inspector.rules import RULES

ENCODER_DECODER = RULES["encoder-decoder"]
_log = logging.getLogger("pitfalls")


def check(model=None, tokenizer=None, inputs=None, /, **generate_kwargs) -> Report:
    """Look at `model.generate(**inputs, **generate_kwargs)` before it is run: no forward pass, about a millisecond.

    `inputs` is what the tokenizer returned (a `BatchEncoding` or a dict), or the tensor of ids alone, shape (rows,
    tokens); the keywords are those you would give to `generate`. Never raises because of them: what `generate` can't
    take is a finding. Rules about the output need `pitfalls.watch`.
    """
    # by position, as `tokenizer` and `inputs` are also names of arguments of generate
    model = generate_kwargs.pop("model", None) if model is None else model
    tokenizer = generate_kwargs.get("tokenizer") if tokenizer is None else tokenizer
    inputs = generate_kwargs.pop("inputs", None) if inputs is None else inputs
    return apply_rules(Request(model, tokenizer, {**inputs_of(inputs), **generate_kwargs}))


def apply_rules(request: Request) -> Report:
    """All findings of all rules on one request. A rule that fails says nothing; the log has why, at level DEBUG."""
    rules = [ENCODER_DECODER] if _apply(ENCODER_DECODER, request) else RULES.values()
    return Report(finding for finding in (_apply(rule, request) for rule in rules) if finding)


def _apply(rule: Rule, request: Request):
    try:
        return rule(request)
    except Exception:
        _log.debug("the rule %s failed", rule.name, exc_info=True)
        return None
