"""The final exam: a program with seven mistakes, drawn from a pool, and a check that runs it.

exam = pitfalls.practice.exam(seed=1)      # the same seed draws the same mistakes for everyone
exam                                       # the program
exam.open()                                # the program in a cell, ready to be fixed
exam.check(load, answer, story)            # after fixing it: the score
"""

import random
import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from IPython import get_ipython

import pitfalls
from pitfalls.language import N_, Message, _, directed, html_language, ngettext
from pitfalls.practice import class_board
from pitfalls.practice.feedback import Feedback, as_code, named, noted
from pitfalls.practice.tasks import tasks
from pitfalls.silence import silenced

MISTAKES = 7
QUESTIONS = ["What is the capital of Japan?", "Give me three names for a cat."]
BEGINNING = "Once upon a time"
OPENED = N_(
    "The program is in this cell now, or in a new one below it: fix it there, and run that cell as often as you like. "
    "Where neither has happened, copy it from above, and add the line `exam.check(load, answer, story)`."
)
KEY = ("08", "exam")
tasks[KEY] = N_("The final exam")
PROGRAM = """\
from transformers import AutoModelForCausalLM, AutoTokenizer

def load(name):
    tokenizer = AutoTokenizer.from_pretrained(name, padding_side="left")
    model = AutoModelForCausalLM.from_pretrained(name, dtype="float32")
    model.eval()
    return model, tokenizer

def prepare(tokenizer, questions):
    chats = [[{"role": "user", "content": question}] for question in questions]
    options = {"padding": True, "return_dict": True, "return_tensors": "pt"}
    return tokenizer.apply_chat_template(chats, add_generation_prompt=True, **options)

def answer(model, tokenizer, questions):
    inputs = prepare(tokenizer, questions).to(model.device)
    ids = model.generate(**inputs, max_new_tokens=60, do_sample=False)
    new_ids = ids[:, inputs["input_ids"].shape[1] :]
    return tokenizer.batch_decode(new_ids, skip_special_tokens=True)

def story(model, tokenizer, beginning):
    inputs = tokenizer(beginning, return_tensors="pt").to(model.device)
    ids = model.generate(**inputs, use_cache=True, max_new_tokens=30, do_sample=True, temperature=0.8, top_p=0.9)
    return tokenizer.decode(ids[0], skip_special_tokens=True)
"""


class Mistake(NamedTuple):
    """One way to spoil the program: `right` stands once in it, and is replaced."""

    rule: str  # the inspector's name for it
    where: str  # the function that goes wrong
    right: str
    wrong: str


_TEMPLATE = "tokenizer.apply_chat_template(chats, add_generation_prompt=True, **options)"
# One of each group is drawn at most: they spoil the same words.
POOL = [
    [
        Mistake("removed-keyword", "load", 'dtype="float32"', "load_in_4bit=True"),
        Mistake("half-precision", "load", 'dtype="float32"', 'dtype="float16"'),
    ],
    [Mistake("padding-side", "answer", 'padding_side="left"', 'padding_side="right"')],
    [Mistake("train-mode", "load", "model.eval()", "model.train()")],
    [
        Mistake("generation-prompt", "answer", _TEMPLATE, _TEMPLATE.replace("True", "False")),
        Mistake("prompt-template", "answer", _TEMPLATE, 'tokenizer(questions, padding=True, return_tensors="pt")'),
    ],
    [
        Mistake("positional-inputs", "answer", "(**inputs, max", "(inputs, max"),
        Mistake("attention-mask", "answer", "(**inputs, max", '(inputs["input_ids"], max'),
    ],
    [
        Mistake("length", "answer", "max_new_tokens=60, ", ""),
        Mistake("max-length", "answer", "max_new_tokens=60, ", "max_length=45, "),
    ],
    [Mistake("temperature-zero", "answer", "do_sample=False", "do_sample=True, temperature=0.0")],
    [Mistake("prompt-echo", "answer", 'ids[:, inputs["input_ids"].shape[1] :]', "ids")],
    [
        Mistake(
            "special-tokens-kept",
            "answer",
            "batch_decode(new_ids, skip_special_tokens=True)",
            "batch_decode(new_ids)",
        )
    ],
    [Mistake("trailing-space", "story", "tokenizer(beginning, ", 'tokenizer(beginning + " ", ')],
    [Mistake("ignored-sampling-flags", "story", "do_sample=True, temperature=0.8", "temperature=0.8")],
    [Mistake("invalid-setting", "story", "top_p=0.9", "top_p=90")],
    [Mistake("unknown-argument", "story", "use_cache=True", "cache=True")],
]


@dataclass(frozen=True)
class Exam:
    """A program to fix. `mistakes` says what is wrong with it: no peeking."""

    seed: int
    mistakes: list[Mistake]

    @property
    def program(self) -> str:
        text = PROGRAM
        for mistake in self.mistakes:
            text = text.replace(mistake.right, mistake.wrong)
        return text

    def open(self) -> Feedback:
        """Put the program, and the check as its last line, where this cell stands; Colab adds a cell below it."""
        if shell := get_ipython():
            shell.set_next_input(f"{self.program}\nexam.check(load, answer, story)", replace=True)
        return Feedback("not yet", _(OPENED))

    def __repr__(self) -> str:
        mistakes = len(self.mistakes)
        head = ngettext("Exam {seed}: {n} mistake", "Exam {seed}: {n} mistakes", mistakes, seed=self.seed)
        return f"{directed(head)}\n\n{self.program}"

    def _repr_html_(self) -> str:
        head = ngettext(
            "**Exam {seed}**: this program has {n} mistake. The next cell opens it.",
            "**Exam {seed}**: this program has {n} mistakes. The next cell opens it.",
            len(self.mistakes),
            seed=self.seed,
        )
        head = re.sub(r"\*\*(.+?)\*\*", r"<b>\1</b>", head)
        if attributes := html_language():
            head = f"<div{attributes}>{head}</div>"
        return head + as_code(self.program)

    def check(self, load: Any, answer: Any, story: Any) -> Feedback:
        """Run the three functions on the embedded model, and count the mistakes that are fixed.

        A mistake in a function that stops with an error counts as open: another one may hide it.
        """
        return noted(KEY, self._checked(load, answer, story))

    def _checked(self, load: Any, answer: Any, story: Any) -> Feedback:
        if any(function is ... for function in (load, answer, story)):
            return Feedback("not yet", _("Take the program into this cell, fix it, and run the cell again."))
        found, stopped, answers, written = _run(load, answer, story)
        open_ = [m for m in self.mistakes if m.rule in found or m.where in stopped or "load" in stopped]
        counts = {"fixed": len(self.mistakes) - len(open_), "mistakes": len(self.mistakes)}
        score = {name: Message(f"{n}", f"{n}") for name, n in counts.items()}  # a class may see how far one has come
        if open_:
            left = [(lesson_of(m), m.where) for m in open_ if m.where not in stopped]
            lines = [f"  - {line}" for line in stopped.values()]
            lines += [
                "  - " + _("something from lesson {lesson}, in {function}", lesson=n, function=f) for n, f in left
            ]
            head = _("{fixed} of {mistakes} fixed. Still open:", **score)
            return Feedback("not quite", head + "\n" + "\n".join(lines))
        if [text.strip() for text in answers] != [text.strip() for text in written]:
            told = _(
                "{fixed} of {mistakes} fixed, but the model wrote {written}, and came {answers}.",
                **score,
                written=written,
                answers=answers,
            )
            return Feedback("not quite", told)
        if "Tokyo" not in answers[0]:
            told = _("{fixed} of {mistakes} fixed, but the first answer is {answer!r}.", **score, answer=answers[0])
            return Feedback("not quite", told)
        return Feedback(
            "right", _("{fixed} of {mistakes}. Your program answers: {answer!r}", **score, answer=answers[0])
        )


def lesson_of(mistake: Mistake) -> int:
    return int(pitfalls.RULES[mistake.rule].lesson[:2])


def exam(seed: int | None = None) -> Exam:
    """Draw an exam; without a seed that of the class, in a workshop whose instructor has chosen one, or any."""
    if seed is None:
        seed = class_board.seed()
    seed = random.randrange(10_000) if seed is None else seed
    dice = random.Random(seed)
    return Exam(seed, [dice.choice(group) for group in dice.sample(POOL, MISTAKES)])


def _run(load: Callable, answer: Callable, story: Callable) -> tuple[set[str], dict[str, str], list[str], list[str]]:
    """The rules found, what to say of each function that stopped, the answers, and what the model wrote for them."""
    found: set[str] = set()
    stopped: dict[str, str] = {}
    answers, written = [""], list[str]()
    try:
        model, tokenizer = load(pitfalls.fetch_model())
    except Exception as error:
        return found, {"load": _stopped("load", error)}, answers, written
    calls_of = {
        "answer": lambda: answer(model, tokenizer, QUESTIONS),
        "story": lambda: story(model, tokenizer, BEGINNING),
    }
    for name, call in calls_of.items():
        try:
            with pitfalls.watch(model, tokenizer) as calls, silenced(), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                result = call()
            if not calls:
                stopped[name] = _("{function} stopped with no call of generate", function=name)
        except Exception as error:
            stopped[name] = _stopped(name, error)
        else:
            if name == "answer":
                answers = [str(text) for text in result] if isinstance(result, (list, tuple)) else [str(result)]
                written = [row.new_text for call in calls for row in call.rows]
        found |= calls.report.rules
    return found, stopped, answers, written


def _stopped(function: str, error: Exception) -> str:
    told = " ".join([named(error)[:200], *getattr(error, "__notes__", [])])
    return _("{function} stopped with {error}", function=function, error=told)
