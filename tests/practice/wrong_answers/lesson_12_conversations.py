"""Of lesson 12."""

CLEAN = """
import re

def answer(text, markers):
{}
pitfalls.practice.clean_text(answer, tokenizer)"""

LOOP = """    for marker in markers:
        text = {}
    return text"""

CALLS = """
import json, re

def answer(text):
    calls = []
    for inside in re.{find}(r"<tool_call>({inside}){end}", text{flags}):
        try:
            call = json.loads(inside)
        except {error}:
            {broken}
        if {is_call}:
            {arguments}
            calls.append(call)
    return calls{which}
pitfalls.practice.parse_calls(answer)"""


def clean(hint, body) -> tuple[str, str]:
    return CLEAN.format(body), hint


def calls(
    hint,
    find="findall",
    inside=".*?",
    end="</tool_call>",
    flags=", flags=re.DOTALL",
    error="json.JSONDecodeError",
    broken="continue",
    is_call="isinstance(call, dict) and 'name' in call",
    arguments="call['arguments'] = as_dict(call['arguments'])",
    which="",
) -> tuple[str, str]:
    code = CALLS.format(**{name: value for name, value in locals().items() if name != "hint"})
    helper = "\n\ndef as_dict(value):\n    return json.loads(value) if isinstance(value, str) else value\n"
    return code.replace("\n\ndef answer", helper + "\ndef answer"), hint


WRONG = {
    "clean_text": [
        clean("its two halves met", LOOP.format('text.replace(marker, "")')),
        clean("is still a token", "    return text"),
        clean("Go through all markers", '    return text.replace("<|im_end|>", " ")'),
        clean("A '<' or '<|' alone is no marker", '    return text.replace("<|", "")'),
        clean("White space belongs to the text", LOOP.format('text.replace(marker, " ").strip()')),
        clean("An ordinary text must stay", '    return text.replace("|", "/")'),
        clean("The words around a marker", LOOP.format("text.split(marker)[0]")),
        clean("Return the text, a str", '    return [text.replace(marker, " ") for marker in markers]'),
        clean("its two halves met", '    return re.sub("|".join(map(re.escape, markers)), "", text)'),
        clean("Your function stopped with TypeError", '    return text["content"]'),
    ],
    "parse_calls": [
        calls("Line breaks may stand inside", flags=""),
        calls("a pattern that stops at the first end marker", inside=".*"),
        calls("Braces may stand inside", inside=r"\s*\{[^{}]*\{[^{}]*\}\}\s*"),
        calls("no JSON: json.loads raises an error, and there is no call", error="KeyError"),
        calls("leave out only the broken one", broken="return []"),
        calls("The arguments came as a text", arguments="pass"),
        calls(
            "no dict with a name",
            is_call="True",
            arguments="isinstance(call, dict) and call.update(arguments=as_dict(call['arguments']))",
        ),
        calls("This call has no name", is_call="isinstance(call, dict)"),
        calls("This text holds two calls", which="[:1]"),
        calls("Return a list of calls", which=" or None"),
        calls("This text is one call", which="[1:]"),
        calls("The end marker never came", end="(?:</tool_call>|$)"),
    ],
}
