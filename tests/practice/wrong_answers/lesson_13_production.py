"""Of lesson 13."""

CHOICE = """
answer = {{"A": {a}, "B": {b}, "C": {c}}}
pitfalls.practice.format_and_server(answer)"""

REPLY = """
def answer(reply):
    choice = reply.choices[0]
{body}
pitfalls.practice.whole_reply(answer)"""
UNFINISHED = 'raise ValueError(f"ended by {choice.finish_reason}")'


def choice(hint, a=("GGUF", "llama.cpp"), b=("bf16", "vLLM"), c=("nf4", "transformers")) -> tuple[str, str]:
    return CHOICE.format(a=a, b=b, c=c), hint


def reply(hint, *lines) -> tuple[str, str]:
    return REPLY.format(body="\n".join(f"    {line}" for line in lines)), hint


WRONG = {
    "format_and_server": [
        choice("made for a CPU", a=("GGUF", "vLLM")),
        choice("made for a CPU", a=("GGUF", "transformers")),
        choice("llama.cpp reads GGUF files, and not nf4", a=("nf4", "llama.cpp")),
        choice("a hundred people ask at once", b=("bf16", "transformers")),
        choice("Why round them", b=("nf4", "vLLM")),
        choice("do not fit on a card of 8 GB", c=("bf16", "transformers")),
        choice("with what is installed already", c=("nf4", "vLLM")),
        choice("none of the formats: bf16, nf4, GGUF", c=("int4", "transformers")),
        choice("none of the servers", b=("bf16", "SGLang")),
        choice("needs a pair", b="'vLLM'"),
        ('\nanswer = {"A": ("GGUF", "llama.cpp")}\npitfalls.practice.format_and_server(answer)', "Keep the keys"),
    ],
    "whole_reply": [
        reply("One that was cut came through", "return choice.message.content"),
        reply("It ends in a full stop, and was cut", "text = choice.message.content",
              'if text[-1] == "," or choice.finish_reason != "stop" and not text.endswith("."): ' + UNFINISHED,
              "return text"),
        reply("finished without a full stop", 'if not choice.message.content.endswith("."): ' + UNFINISHED,
              "return choice.message.content"),
        reply("A reply without any text", f'if choice.finish_reason == "length": {UNFINISHED}',
              "return choice.message.content"),
        reply("and returned None: raise a ValueError",
              'if choice.finish_reason == "stop": return choice.message.content'),
        reply("Return the text alone", f'if choice.finish_reason != "stop": {UNFINISHED}', "return choice.message"),
        reply("Say in the error why it ended", 'if choice.finish_reason != "stop": raise ValueError("not whole")',
              "return choice.message.content"),
        reply("refused a finished one", f'if choice.finish_reason == "stop": {UNFINISHED}',
              "return choice.message.content"),
        reply("AttributeError", "return choice.text"),
    ],
}  # fmt: skip
