"""Exercises of lesson 4."""

import re

from pitfalls.language import N_, _, ngettext
from pitfalls.practice.feedback import Hint, equal, exercise, run
from pitfalls.practice.prediction import question

question(
    "04",
    N_("The prompt has 10 tokens. How many new ones does this call write?"),
    """ids = model.generate(**inputs)
ids.shape[1] - inputs["input_ids"].shape[1]""",
    {
        10: N_("That is a budget of 20 with the prompt counted in, as it was until version 4.46."),
        20: N_("It is what you get where neither you nor the checkpoint says anything, even in mid-sentence."),
        50: N_("The model would continue that far if you asked for it; nobody did."),
        8192: N_("That is the size of its context window. Without a word from you, another limit comes first."),
    },
)


@exercise("04", N_("How many tokens are left"))
def tokens_left(answer, model, tokenizer) -> str:
    """a dict with the number of new tokens that each of the four calls may write."""
    prompt = len(tokenizer("Once upon a time")["input_ids"])
    expected = {"nothing said": 20, "max_new_tokens=5": 5, "max_length=30": 30 - prompt, "both": 5}
    if not isinstance(answer, dict) or set(answer) != set(expected):
        raise Hint(_("Expected a dict with the keys {keys}; keep those of the stub.", keys=list(expected)))
    if answer["nothing said"] == 20 - prompt:
        raise Hint(
            _(
                "Without a word about length you get 20 new tokens: the prompt doesn't count "
                "(it did until version 4.46)."
            )
        )
    if answer["max_length=30"] == 30:
        raise Hint(_("max_length counts the prompt too: its tokens are taken off the 30."))
    if answer["both"] == 30 - prompt:
        raise Hint(_("Where both are given, max_new_tokens wins."))
    equal(answer, expected, _("the new tokens of each call"))
    return _("Only max_length depends on the prompt, and max_new_tokens beats it.")


def _whole(model, tokenizer, prompt: str) -> str:
    """The rest of the sentence, up to its full stop; the last token may hold more than that."""
    inputs = tokenizer(prompt, return_tensors="pt").to(model.device)
    stops = {"max_new_tokens": 80, "do_sample": False, "stop_strings": [".", "!", "?"], "tokenizer": tokenizer}
    text = tokenizer.decode(model.generate(**inputs, **stops)[0, inputs["input_ids"].shape[1] :])
    return re.split(r"(?<=[.!?])", text)[0]


@exercise("04", N_("Exactly one sentence, without the prompt"))
def one_sentence(answer, model, tokenizer) -> str:
    """a function that returns one sentence, and nothing of the prompt."""
    for prompt in ["Once upon a time", 'My mother always said: "You', "Water boils at"]:
        text = run(answer, model, tokenizer, prompt)
        if not isinstance(text, str):
            raise Hint(_("Return the text, a str: decode the ids. Came: {kind}.", kind=type(text).__name__))
        if text.strip().startswith(prompt):
            raise Hint(_("The prompt is still there: decode only the ids after it, `ids[0, prompt_length:]`."))
        if "<|im_end|>" in text:
            raise Hint(_("The end token is in the text: decode with skip_special_tokens=True."))
        if not text.strip():
            raise Hint(_("Nothing came for {prompt!r}: is all of the output cut off?", prompt=prompt))
        if _whole(model, tokenizer, prompt).strip()[:-1] == text.strip():
            raise Hint(
                _("Only the full stop is missing: it belongs to the sentence, and generate keeps the stop string.")
            )
        ends = re.findall(r"[.!?](?=\s|$)", text.strip())
        if more := re.search(r"[.!?]([^\w\s.!?]+)$", text.strip()):
            raise Hint(
                _(
                    "After the full stop comes {rest!r}: the last token holds both. Cut the text after the sign.",
                    rest=more[1],
                )
            )
        if not text.strip().endswith((".", "!", "?")):
            raise Hint(
                _("This sentence is cut off: {text!r}. Allow more tokens, and stop at the full stop.", text=text)
            )
        if len(ends) > 1:
            raise Hint(
                ngettext(
                    "There is {n} sentence: {text!r}. Stop strings end a row where a text appears.",
                    "There are {n} sentences: {text!r}. Stop strings end a row where a text appears.",
                    len(ends),
                    text=text,
                )
            )
    return _("Three prompts, three sentences: stop_strings ends the call, and two cuts leave the sentence alone.")
