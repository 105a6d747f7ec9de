"""Exercises of lesson 8."""

import torch

from pitfalls.inspector.report import PitfallError
from pitfalls.inspector.rules import RULES
from pitfalls.language import N_, _
from pitfalls.practice.feedback import Hint, equal, exercise, run
from pitfalls.practice.prediction import question

question(
    "08",
    N_("How many pitfalls does the inspector find in one run of this chatbot?"),
    """with pitfalls.watch(model, tokenizer) as calls:
    chatbot(QUESTIONS)
len(calls.report)""",
    {
        3: N_("That is how many transformers itself remarks on: the length, the temperature, the side of the padding."),
        4: N_("One in each function would be four. `generate` alone has as many."),
        7: N_("That is without those of `read`, which keeps the prompt and the markers in the answer."),
        9: N_(
            "Two in `write_prompt`, one in loading the tokenizer, four in `generate`, two in `read`. A tenth is "
            "hidden: it shows only after one of the nine is fixed."
        ),
    },
)


TEXTS = ["1, 2, 3", "A, B, C, D, E"]
# Written down, as a model's own settings may break further rules, or sample where the call alone would not.
MISTAKES = {"A": "padding-side", "B": "attention-mask", "C": "ignored-sampling-flags", "D": "length"}


@exercise("08", N_("Name the mistakes"))
def name_the_mistakes(answer, model, tokenizer) -> str:
    """a dict from A, B, C and D to the name of the rule that is broken there."""
    if not isinstance(answer, dict) or set(answer) != set(MISTAKES):
        raise Hint(_("Expected a dict with the keys A, B, C and D; keep those of the stub."))
    unknown = [name for name in answer.values() if name not in RULES]
    if unknown:
        told = _("{name!r} is no rule. `!python -m pitfalls rules` in a cell lists their names.", name=unknown[0])
        raise Hint(told)
    if (answer["A"], answer["B"]) == (MISTAKES["B"], MISTAKES["A"]):
        raise Hint(
            _("A and B are the other way round: in A the pads are in the wrong place, in B they are not hidden.")
        )
    hints = {
        "C": N_("C gives a temperature. Does anything draw? It says do_sample=False."),
        "D": N_("D says nothing about something that every call should say. When does it stop?"),
    }
    for letter, rule in MISTAKES.items():
        if answer[letter] != rule and letter in hints:
            raise Hint(_(hints[letter]))
        equal(answer[letter], rule, _("the rule that {letter} breaks", letter=letter))
    return _(
        "Four calls. Transformers remarks on A, C and D, and lets B pass in silence, which is an error as grave as A."
    )


@exercise("08", N_("A guard for your own code"))
def guard(answer, model, tokenizer) -> str:
    """a function that raises PitfallError for a call with an error, and returns the output of any other."""
    good = dict(tokenizer(TEXTS, padding=True, padding_side="left", return_tensors="pt"))
    broken = dict(tokenizer(TEXTS, padding=True, padding_side="right", return_tensors="pt"))
    before = [model.training, model.generation_config.to_dict()]
    expected = model.generate(**good, max_new_tokens=4)
    output = run(answer, model, tokenizer, good, max_new_tokens=4)
    if output is None:
        raise Hint(_("Nothing came back for a good call: return what model.generate returns."))
    if not isinstance(output, torch.Tensor) or not torch.equal(output, expected):
        raise Hint(_("A good call must return what model.generate returns: pass the inputs and all settings on."))
    steps = []
    hook = model.register_forward_hook(lambda *_: steps.append(1))
    try:
        answer(model, tokenizer, broken, max_new_tokens=4)
    except PitfallError:
        if steps:
            raise Hint(_("It did raise, but only after the model had generated: check first, generate then.")) from None
    except Exception as error:
        told = _("Expected a PitfallError for a right-padded batch. Came: {error}.", error=type(error).__name__)
        raise Hint(told) from None
    else:
        raise Hint(_("A right-padded batch went through: ask the report to raise, report.raise_for_errors()."))
    finally:
        hook.remove()
    try:
        answer(model, tokenizer, good, max_new_tokens=4, temperature=0.7)
    except PitfallError:
        raise Hint(_("A warning must pass (a temperature without sampling): raise for errors only.")) from None
    assert before == [model.training, model.generation_config.to_dict()]
    return _(
        "Errors stop the call before it is made, warnings pass: this is how a test or a service uses the inspector."
    )
