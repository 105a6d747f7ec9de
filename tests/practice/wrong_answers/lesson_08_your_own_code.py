"""Of lesson 8."""

NAMES = """answer = {{"A": "{}", "B": "{}", "C": "{}", "D": "{}"}}
pitfalls.practice.name_the_mistakes(answer, model, tokenizer)"""
GUARD = """
def answer(model, tokenizer, inputs, **settings):
    report = pitfalls.check(model, tokenizer, inputs, **settings)
    {}
pitfalls.practice.guard(answer, model, tokenizer)"""

WRONG = {
    "name_the_mistakes": [
        (NAMES.format("attention-mask", "padding-side", "ignored-sampling-flags", "length"), "other way round"),
        (NAMES.format("padding-side", "attention-mask", "temperature-zero", "length"), "Does anything draw?"),
        (NAMES.format("padding-side", "attention-mask", "ignored-sampling-flags", "max-length"), "When does it stop?"),
        (NAMES.format("padding", "attention-mask", "ignored-sampling-flags", "length"), "'padding' is no rule"),
        (
            NAMES.format("padding-side", "no-pad-token", "ignored-sampling-flags", "length"),
            "Expected the rule that B breaks",
        ),
    ],
    "guard": [
        (GUARD.format("return model.generate(**inputs, **settings)"), "went through"),
        (GUARD.format("report.raise_for_errors()"), "Nothing came back"),
        (
            GUARD.format("report.raise_for_errors(); return model.generate(**inputs)"),
            "pass the inputs and all settings on",
        ),
        (
            GUARD.format(
                "if len(report): raise pitfalls.PitfallError\n    return model.generate(**inputs, **settings)"
            ),
            "A warning must pass",
        ),
        (
            GUARD.format(
                "with pitfalls.watch(model, tokenizer) as calls:\n"
                "        output = model.generate(**inputs, **settings)\n"
                "    calls.report.raise_for_errors()\n    return output"
            ),
            "check first, generate then",
        ),
        (
            GUARD.format("assert not len(report)\n    return model.generate(**inputs, **settings)"),
            "Came: AssertionError",
        ),
    ],
}
