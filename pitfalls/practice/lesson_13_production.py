"""The prediction and the exercises of lesson 13."""

from types import SimpleNamespace
from typing import Any

from pitfalls.language import N_, _
from pitfalls.practice.feedback import Hint, equal, exercise, named, run
from pitfalls.practice.prediction import question

question(
    "13",
    N_("How many MB do the weights take in 8 bits?"),
    """from transformers import BitsAndBytesConfig
in_8_bits = AutoModelForCausalLM.from_pretrained(SMALL, quantization_config=BitsAndBytesConfig(load_in_8bit=True))
round(in_8_bits.get_memory_footprint() / 1e6)""",
    {
        106: N_("This is what the layers take in 8 bits. The table of embeddings comes on top."),
        135: N_("One byte for each weight, if all of them were stored so. One large table is not."),
        220: N_("106 MB for the layers, and 113 MB for the table of embeddings, which stays in 32 bits."),
        269: N_("This is 16 bits. Most weights do shrink further."),
    },
)

FORMATS = ("bf16", "nf4", "GGUF")
SERVERS = ("transformers", "llama.cpp", "vLLM")
RIGHT = {"A": ("GGUF", "llama.cpp"), "B": ("bf16", "vLLM"), "C": ("nf4", "transformers")}


@exercise("13", N_("Format and server for three situations"))
def format_and_server(answer) -> str:
    """a dictionary with a pair (format, server) for each of A, B and C."""
    if not isinstance(answer, dict) or set(answer) != set(RIGHT):
        raise Hint(_("Keep the keys A, B and C, each with a pair: (format, server)."))
    for situation, pair in answer.items():
        if not isinstance(pair, (tuple, list)) or len(pair) != 2:
            raise Hint(_("{situation} needs a pair, as in ('bf16', 'vLLM').", situation=situation))
        if pair[0] not in FORMATS:
            known = ", ".join(FORMATS)
            raise Hint(_("{format!r} is none of the formats: {known}.", format=pair[0], known=known))
        if pair[1] not in SERVERS:
            known = ", ".join(SERVERS)
            raise Hint(_("{server!r} is none of the servers: {known}.", server=pair[1], known=known))
    for situation, (form, server) in answer.items():
        if server == "llama.cpp" and form != "GGUF":
            told = N_("{situation}: llama.cpp reads GGUF files, and not {format}.")
            raise Hint(_(told, situation=situation, format=form))
    slips = {
        ("A", 1): N_("A has no GPU: which of the servers is made for a CPU, and for the file that there is?"),
        ("A", 0): N_("A: the file is there already, in 4 bits. What is its format called?"),
        ("B", 1): N_("B: a hundred people ask at once. Which server puts new questions into a running batch on a GPU?"),
        ("B", 0): N_("B: 16 GB of weights leave room on a card of 80 GB. Why round them?"),
        ("C", 0): N_(
            "C: 14.5 GB do not fit on a card of 8 GB. Which of the formats is made while the model is loaded?"
        ),
        ("C", 1): N_("C: it is a try, by one person, with what is installed already."),
    }
    for (situation, part), hint in slips.items():
        if answer[situation][part] != RIGHT[situation][part]:
            raise Hint(_(hint))
    return _(
        "Each fits: A on a CPU (GGUF with llama.cpp), B for many users (bf16 with vLLM), "
        "C from the checkpoint that there is (nf4 with transformers)"
    )


FINISHED = {  # each text, with its tokens, its name, and what a function hears that refuses it
    "Tokyo.": (3, N_("the text of a finished one"), N_("Your function refused a finished one, with {error}.")),
    "Red, green and blue": (
        6,
        N_("the text of a finished one without a full stop"),
        N_(
            "Your function refused a finished one without a full stop, with {error}. "
            "A text can be finished without a full stop."
        ),
    ),
}
REFUSED = {  # each text, with its tokens, why it ended, and what a function hears that returns another one, or this one
    "Once upon a time there was": (
        *(50, "length"),
        N_("Your function met one that was cut, and returned {result!r}: raise a ValueError, with `raise`."),
        N_("One that was cut came through: {text!r}."),
    ),
    "It was late. She went home.": (
        *(50, "length"),
        N_(
            "Your function met one that was cut after a full stop, and returned {result!r}: raise a ValueError, with "
            "`raise`."
        ),
        N_(
            "One that was cut after a full stop came through: {text!r}. It ends in a full stop, and was cut all the "
            "same: ask for the reason."
        ),
    ),
    None: (
        *(9, "tool_calls"),
        N_("Your function met one without any text, and returned {result!r}: raise a ValueError, with `raise`."),
        N_("A reply without any text, `content` is None, came through: its reason is 'tool_calls'."),
    ),
}


def _reply(text, reason, tokens):
    """As the `openai` client gives it."""
    message = SimpleNamespace(role="assistant", content=text, tool_calls=None if text else [SimpleNamespace(id="1")])
    choice = SimpleNamespace(index=0, message=message, finish_reason=reason, logprobs=None)
    usage = SimpleNamespace(completion_tokens=tokens, prompt_tokens=30, total_tokens=30 + tokens)
    return SimpleNamespace(id="chat-1", model="any", choices=[choice], usage=usage)


@exercise("13", N_("Take only a whole reply"))
def whole_reply(answer) -> str:
    """a function that returns the text of a finished reply, and raises ValueError for any other."""
    for text, (tokens, what, refused) in FINISHED.items():
        reply = _reply(text, "stop", tokens)
        result, raised = _met(answer, reply)
        if raised is not None:
            raise Hint(_(refused, error=named(raised)))
        if result is reply.choices[0].message or result is reply.choices[0]:
            raise Hint(_("Return the text alone: `reply.choices[0].message.content`."))
        equal(result, text, _(what))
    for cut, (tokens, reason, other, came_through) in REFUSED.items():
        result, raised = _met(answer, _reply(cut, reason, tokens))
        if raised is None:
            raise Hint(_(other if result != cut else came_through, result=result, text=cut))
        if reason not in str(raised):
            told = N_("Say in the error why it ended: {reason!r} is not in {error!r}.")
            raise Hint(_(told, reason=reason, error=str(raised)))
    return _("Two finished replies came through, and three others were refused, each with its reason.")


def _met(answer: Any, reply: SimpleNamespace) -> tuple[Any, ValueError | None]:
    """What the reader's function returns for this reply, and the ValueError that it raises."""
    raised = None

    def call() -> Any:
        nonlocal raised
        try:
            return answer(reply)
        except ValueError as error:
            raised = error

    if not callable(answer):
        run(answer, reply)
    return run(call), raised
