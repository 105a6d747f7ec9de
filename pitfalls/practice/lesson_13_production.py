"""The prediction and the exercises of lesson 13."""

from types import SimpleNamespace

from pitfalls.practice.feedback import Hint, equal, exercise, named, run
from pitfalls.practice.prediction import question

question(
    "13",
    "How many MB do the weights take in 8 bits?",
    """from transformers import BitsAndBytesConfig
in_8_bits = AutoModelForCausalLM.from_pretrained(SMALL, quantization_config=BitsAndBytesConfig(load_in_8bit=True))
round(in_8_bits.get_memory_footprint() / 1e6)""",
    {
        106: "This is what the layers take in 8 bits. The table of embeddings comes on top.",
        135: "One byte for each weight, if all of them were stored so. One large table is not.",
        220: "106 MB for the layers, and 113 MB for the table of embeddings, which stays in 32 bits.",
        269: "This is 16 bits. Most weights do shrink further.",
    },
)

FORMATS = ("bf16", "nf4", "GGUF")
SERVERS = ("transformers", "llama.cpp", "vLLM")
RIGHT = {"A": ("GGUF", "llama.cpp"), "B": ("bf16", "vLLM"), "C": ("nf4", "transformers")}
FITTING = {"A": "on a CPU", "B": "for many users", "C": "from the checkpoint that there is"}


@exercise("13", "Format and server for three situations")
def format_and_server(answer) -> str:
    """a dictionary with a pair (format, server) for each of A, B and C."""
    if not isinstance(answer, dict) or set(answer) != set(RIGHT):
        raise Hint("Keep the keys A, B and C, each with a pair: (format, server).")
    for situation, pair in answer.items():
        if not isinstance(pair, (tuple, list)) or len(pair) != 2:
            raise Hint(f"{situation} needs a pair, as in ('bf16', 'vLLM').")
        if pair[0] not in FORMATS:
            raise Hint(f"{pair[0]!r} is none of the formats: {', '.join(FORMATS)}.")
        if pair[1] not in SERVERS:
            raise Hint(f"{pair[1]!r} is none of the servers: {', '.join(SERVERS)}.")
    for situation, (form, server) in answer.items():
        if server == "llama.cpp" and form != "GGUF":
            raise Hint(f"{situation}: llama.cpp reads GGUF files, and not {form}.")
    slips = {
        ("A", 1): "A has no GPU: which of the servers is made for a CPU, and for the file that there is?",
        ("A", 0): "A: the file is there already, in 4 bits. What is its format called?",
        ("B", 1): "B: a hundred people ask at once. Which server puts new questions into a running batch on a GPU?",
        ("B", 0): "B: 16 GB of weights leave room on a card of 80 GB. Why round them?",
        ("C", 0): "C: 14.5 GB do not fit on a card of 8 GB. Which of the formats is made while the model is loaded?",
        ("C", 1): "C: it is a try, by one person, with what is installed already.",
    }
    for (situation, part), hint in slips.items():
        if answer[situation][part] != RIGHT[situation][part]:
            raise Hint(hint)
    return "Each fits: " + ", ".join(f"{name} {FITTING[name]} ({' with '.join(pair)})" for name, pair in RIGHT.items())


REPLIES = {  # what they are: the text, why it ended, and how many tokens it took
    "a finished one": ("Tokyo.", "stop", 3),
    "a finished one without a full stop": ("Red, green and blue", "stop", 6),
    "one that was cut": ("Once upon a time there was", "length", 50),
    "one that was cut after a full stop": ("It was late. She went home.", "length", 50),
    "one without any text": (None, "tool_calls", 9),
}


def _reply(text, reason, tokens):
    """As the `openai` client gives it."""
    message = SimpleNamespace(role="assistant", content=text, tool_calls=None if text else [SimpleNamespace(id="1")])
    choice = SimpleNamespace(index=0, message=message, finish_reason=reason, logprobs=None)
    usage = SimpleNamespace(completion_tokens=tokens, prompt_tokens=30, total_tokens=30 + tokens)
    return SimpleNamespace(id="chat-1", model="any", choices=[choice], usage=usage)


@exercise("13", "Take only a whole reply")
def whole_reply(answer) -> str:
    """a function that returns the text of a finished reply, and raises ValueError for any other."""
    for kind, (text, reason, tokens) in REPLIES.items():
        reply, raised = _reply(text, reason, tokens), None

        def call(reply=reply):
            nonlocal raised
            try:
                return answer(reply)
            except ValueError as error:
                raised = error

        if not callable(answer):
            run(answer, reply)
        result = run(call)
        if reason == "stop":
            if raised is not None:
                dots = " A text can be finished without a full stop." if text[-1] != "." else ""
                raise Hint(f"Your function refused {kind}, with {named(raised)}.{dots}")
            if result is reply.choices[0].message or result is reply.choices[0]:
                raise Hint("Return the text alone: `reply.choices[0].message.content`.")
            equal(result, text, f"the text of {kind}")
        elif raised is None:
            if result != text:
                raise Hint(f"Your function met {kind}, and returned {result!r}: raise a ValueError, with `raise`.")
            if text is None:
                raise Hint("A reply without any text, `content` is None, came through: its reason is 'tool_calls'.")
            dots = " It ends in a full stop, and was cut all the same: ask for the reason." if text[-1] == "." else ""
            raise Hint(f"{kind.capitalize()} came through: {text!r}.{dots}")
        elif reason not in str(raised):
            raise Hint(f"Say in the error why it ended: {reason!r} is not in {str(raised)!r}.")
    return "Two finished replies came through, and three others were refused, each with its reason."
