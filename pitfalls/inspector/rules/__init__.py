"""The rules of the inspector, a module for each subject, each rule a small function over one call.

from pitfalls.inspector.rules import RULES
RULES["padding-side"]   # the function `padding_side` of `rules/padding.py`
"""

from pitfalls.inspector.rule import Rule
from pitfalls.inspector.rules import (
    arguments,
    cache,
    constraints,
    conversations,
    decoding,
    images,
    lengths,
    markers,
    padding,
    settings,
    state,
    stopping,
    template,
    text,
    weights,
)

MODULES = (
    lengths, decoding, settings, stopping, constraints, padding, template, conversations, markers, arguments, cache,
    images, state, weights, text,
)  # fmt: skip

RULES: dict[str, Rule] = {
    rule.name: rule for module in MODULES for rule in vars(module).values() if isinstance(rule, Rule)
}
