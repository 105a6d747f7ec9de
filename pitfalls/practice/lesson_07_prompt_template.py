"""Exercises of lesson 7."""

import copy
import os
from math import isclose

import torch
from jinja2.exceptions import TemplateError

from pitfalls.inspector.watching import watch
from pitfalls.language import N_, _
from pitfalls.practice.feedback import Hint, equal, exercise, run
from pitfalls.practice.prediction import question

question(
    "07",
    N_("What does the model answer?"),
    """asked = tokenizer("What is the capital of Japan?", return_tensors="pt").to(model.device)
ids = model.generate(**asked, max_new_tokens=40)[0, asked["input_ids"].shape[1] :]
tokenizer.decode(ids, skip_special_tokens=True) or "nothing at all"
""",
    {
        "The capital of Japan is Tokyo.": N_("It knows that, but says so only when asked in the form of its training."),
        "Tokyo": N_(
            "One word would be enough for a person. This model was trained on whole sentences, in a fixed form."
        ),
        "What is the capital of China?": N_(
            "A list of questions is a way to continue such a text. A model that was "
            "trained on conversations has another one."
        ),
        N_("nothing at all"): N_("A bare question looks like a finished turn, so the likeliest next token ends it."),
    },
)


HELLO = {"role": "user", "content": "Hello, who are you?"}
TURNS = [{"role": "user", "content": "Name a colour."}, {"role": "assistant", "content": "Blue."}, HELLO]
SYSTEM = {"role": "system", "content": "Answer in one word."}
CHATS = [[HELLO], TURNS, [SYSTEM, HELLO], [SYSTEM, *TURNS]]
QUESTION = "What is the capital of Spain?"
CAUSES = {
    "the budget was too small": N_(
        "A larger budget changes nothing: the model stops of its own will, at its first token."
    ),
    "the model does not know it": N_("Through the template it does answer. Only the form of the prompt was different."),
    "the answer was cut off": N_("Only the end token was written, so there was no answer to cut off."),
    "a bare question looks like a finished turn": "",
}


@exercise("07", N_("A chat template by hand"))
def template_by_hand(answer, tokenizer) -> str:
    """a function that returns the text of a chat, with the generation prompt."""
    for messages in CHATS:
        try:
            expected = _text(tokenizer, messages)
        except TemplateError:  # a template that knows no system turn
            continue
        text = run(answer, copy.deepcopy(messages))
        if not isinstance(text, str):
            raise Hint(_("Return the text, a str. Came: {kind}.", kind=type(text).__name__))
        if text != expected:
            _explain_text(text, expected, messages, tokenizer)
    return _("Four chats, with and without a system turn, and each is what apply_chat_template writes.")


def _text(tokenizer, messages, prompt=True) -> str:
    return tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=prompt)


def _explain_text(text, expected, messages, tokenizer) -> None:
    end, given_system = tokenizer.eos_token, messages[0]["role"] == "system"
    if text == expected.replace(f"{end}\n", end):
        raise Hint(_("After {end} a new line begins: add \\n.", end=end))
    if text == _text(tokenizer, messages, prompt=False):
        raise Hint(_("The generation prompt is missing: at the end the header of the assistant's turn is opened."))
    if text.strip() == expected.strip():
        raise Hint(_("Only white space is missing or too much, at the beginning or the end. The header ends in \\n."))
    if not given_system and text.strip() and expected.endswith(text.strip("\n") + "\n"):
        raise Hint(
            _("There is no system message in this chat: then the template writes one of its own, word for word.")
        )
    if given_system and text.endswith(expected):
        raise Hint(_("This chat has its own system message, so the template adds none: here there are two."))
    same = len(os.path.commonprefix([text, expected]))
    differ = {"wanted": expected[same : same + 40], "came": text[same : same + 40]}
    if not same:
        raise Hint(_("Expected this: {wanted!r}. Came: {came!r}.", **differ))
    before = expected[max(0, same - 25) : same]
    raise Hint(_("Expected after {before!r} this: {wanted!r}. Came: {came!r}.", before=before, **differ))


@exercise("07", N_("Why this model answers nothing"))
def why_nothing(answer, model, tokenizer) -> str:
    """a dict with two probabilities and a cause."""
    keys = ["raw text", "template", "cause"]
    if not isinstance(answer, dict) or set(answer) != set(keys):
        raise Hint(_("Expected a dict with the keys {keys}; keep those of the stub.", keys=keys))
    given = {}
    for key in keys[:2]:
        try:
            value = answer[key]
            given[key] = float(value.detach() if isinstance(value, torch.Tensor) else value)
        except (TypeError, ValueError, RuntimeError):
            told = _("{key}: expected one number. Came: {given!r}.", key=key, given=answer[key])
            raise Hint(told[:300]) from None
    ask = [{"role": "user", "content": QUESTION}]
    raw = _end_chances(model, tokenizer, tokenizer(QUESTION, return_tensors="pt"))
    half, whole = (
        _end_chances(model, tokenizer, _inputs(tokenizer, ask, prompt))[-1].item() for prompt in (False, True)
    )
    _compare_chance("raw text", given["raw text"], raw[-1].item(), {"place": raw[0].item(), "swapped": whole})
    _compare_chance("template", given["template"], whole, {"half": half, "swapped": raw[-1].item()})
    if answer["cause"] not in list(CAUSES):
        causes = list(CAUSES)
        raise Hint(_("Choose a cause of these four: {causes}. Came: {given!r}.", causes=causes, given=answer["cause"]))
    if wrong := CAUSES[answer["cause"]]:
        raise Hint(_("Not because {cause}. {said}", cause=answer["cause"], said=_(wrong)))
    return _(
        "The end token had {raw:.0%} after the raw text, and {template:.1g} once the assistant's turn was opened.",
        raw=raw[-1],
        template=whole,
    )


def _inputs(tokenizer, messages, prompt=True):
    return tokenizer.apply_chat_template(messages, add_generation_prompt=prompt, return_dict=True, return_tensors="pt")


def _end_chances(model, tokenizer, inputs) -> torch.Tensor:
    """After each token: the probability that the end token comes next."""
    with torch.no_grad():
        logits = model(**inputs.to(model.device)).logits[0]
    return logits.float().softmax(-1)[:, tokenizer.eos_token_id].cpu()


def _compare_chance(key, given, expected, wrong) -> None:
    hints = {
        "place": N_(
            "{key}: that is the chance after the first token of the prompt: look at the last one, logits[0, -1]."
        ),
        "swapped": N_("{key}: the two numbers are swapped."),
        "half": N_("{key}: add_generation_prompt=True is missing: the assistant's turn isn't opened."),
    }
    if isclose(given, expected, rel_tol=0.02) or (0 <= given < 1e-5 and expected < 1e-5 and "place" not in wrong):
        return
    if not 0 <= given <= 1:
        if isclose(given, 100 * expected, rel_tol=0.02):
            told = _("{key}: {given:.4g} is a percentage. Expected a number from 0 to 1.", key=key, given=given)
        else:
            told = _(
                "{key}: {given:.4g} is no probability; use softmax. Expected a number from 0 to 1.",
                key=key,
                given=given,
            )
        raise Hint(told)
    for name, value in wrong.items():
        if isclose(given, value, rel_tol=0.02):
            raise Hint(_(hints[name], key=key))
    raise Hint(
        _(
            "{key}: expected the end token's probability as the first new token, {expected:.4g}. Came: {given:.4g}.",
            key=key,
            expected=expected,
            given=given,
        )
    )


@exercise("07", N_("A conversation of two turns"))
def two_turns(answer, model, tokenizer) -> str:
    """a function that returns the four messages of a conversation."""
    first, second = "What is the capital of Japan?", "How many people live in it?"
    with watch(model, tokenizer) as calls:
        messages = run(answer, model, tokenizer, first, second)
    if not isinstance(messages, list) or not all(
        isinstance(message, dict) and {"role", "content"} <= set(message) for message in messages
    ):
        raise Hint(_("Return a list of messages, each a dict with 'role' and 'content'."))
    roles = [message["role"] for message in messages]
    if len(messages) > 1 and "assistant" not in roles:
        raise Hint(_("Whose words are these? The role of an answer is 'assistant'. Came: {roles}.", roles=roles))
    equal(roles, ["user", "assistant", "user", "assistant"], _("messages with these roles"))
    for message in messages:
        _look_at_content(message, first, second, tokenizer)
    equal([messages[0]["content"], messages[2]["content"]], [first, second], _("the two questions"))
    if len(calls) < 2:
        raise Hint(_("Two answers need two calls of generate with this model. Seen: {calls}.", calls=len(calls)))
    _look_at_prompt(calls[-1], messages, tokenizer)
    one, two = (messages[n]["content"].strip() for n in (1, 3))
    equal(one, calls[-2].rows[0].new_text.strip(), _("the first answer as it was generated"))
    equal(two, calls[-1].rows[0].new_text.strip(), _("the second answer as it was generated"))
    return _("The second prompt held the whole conversation, so 'it' was understood: {answer!r}", answer=two)


def _look_at_content(message, first, second, tokenizer) -> None:
    content = message["content"]
    if not isinstance(content, str):
        kind = type(content).__name__
        raise Hint(_("The content of a message is a str: decode the ids. Came: {kind}.", kind=kind))
    if message["role"] == "assistant":
        if first in content or second in content:
            raise Hint(_("The prompt is in an answer: decode only the ids after it."))
        if any(special in content for special in tokenizer.all_special_tokens):
            told = _("Special tokens are in the answer {text!r}: decode with skip_special_tokens=True.", text=content)
            raise Hint(told)


def _look_at_prompt(call, messages, tokenizer) -> None:
    """Whether the second call saw the first three messages."""
    seen = tokenizer.decode(call.input_ids[0])
    if messages[0]["content"] not in seen:
        raise Hint(
            _("The second call didn't see the first question: the model remembers nothing, so give it all messages.")
        )
    if messages[1]["content"].strip() not in seen:
        raise Hint(_("The second call didn't see the first answer: append it before you ask again."))
    if call.input_ids[0].tolist() == _inputs(tokenizer, messages[:3], prompt=False)["input_ids"][0].tolist():
        raise Hint(_("The assistant's turn isn't opened: add_generation_prompt=True."))
    expected = tokenizer.decode(_inputs(tokenizer, messages[:3])["input_ids"][0])
    equal(seen, expected, _("the first three messages, through the template, as the second prompt"))
