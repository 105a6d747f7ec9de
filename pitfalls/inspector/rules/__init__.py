"""The rules of the inspector, a module for each subject, each rule a small function over one call.

from pitfalls.inspector.rules import RULES
RULES["padding-side"]   # the function `padding_side` of `rules/padding.py`
"""

from pitfalls.inspector.rule import Rule
from pitfalls.inspector.rules import arguments, decoding, lengths, markers, padding, state, template, text

RULES: dict[str, Rule] = {
    rule.name: rule
    for module in (lengths, decoding, padding, template, markers, arguments, state, text)
    for rule in vars(module).values()
    if isinstance(rule, Rule)
}
