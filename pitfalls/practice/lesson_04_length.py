"""Exercises of lesson 4."""

import re

from pitfalls.practice.feedback import Hint, equal, exercise, run
from pitfalls.practice.prediction import question

question(
    "04",
    "The prompt has 10 tokens. How many new ones does this call write?",
    """ids = model.generate(**inputs)
ids.shape[1] - inputs["input_ids"].shape[1]""",
    {
        10: "That is a budget of 20 with the prompt counted in, as it was until version 4.46.",
        20: "It is what you get where neither you nor the checkpoint says anything, even in mid-sentence.",
        50: "The model would continue that far if you asked for it; nobody did.",
        8192: "That is the size of its context window. Without a word from you, another limit comes first.",
    },
)


@exercise("04", "How many tokens are left")
def tokens_left(answer, model, tokenizer) -> str:
    """a dict with the number of new tokens that each of the four calls may write."""
    prompt = len(tokenizer("Once upon a time")["input_ids"])
    expected = {"nothing said": 20, "max_new_tokens=5": 5, "max_length=30": 30 - prompt, "both": 5}
    if not isinstance(answer, dict) or set(answer) != set(expected):
        raise Hint(f"Expected a dict with the keys {list(expected)}; keep those of the stub.")
    if answer["nothing said"] == 20 - prompt:
        raise Hint(
            "Without a word about length you get 20 new tokens: the prompt doesn't count (it did until version 4.46)."
        )
    if answer["max_length=30"] == 30:
        raise Hint("max_length counts the prompt too: its tokens are taken off the 30.")
    if answer["both"] == 30 - prompt:
        raise Hint("Where both are given, max_new_tokens wins.")
    equal(answer, expected, "the new tokens of each call")
    return "Only max_length depends on the prompt, and max_new_tokens beats it."


def _whole(model, tokenizer, prompt: str) -> str:
    """The rest of the sentence, up to its full stop; the last token may hold more than that."""
    inputs = tokenizer(prompt, return_tensors="pt").to(model.device)
    stops = {"max_new_tokens": 80, "do_sample": False, "stop_strings": [".", "!", "?"], "tokenizer": tokenizer}
    text = tokenizer.decode(model.generate(**inputs, **stops)[0, inputs["input_ids"].shape[1] :])
    return re.split(r"(?<=[.!?])", text)[0]


@exercise("04", "Exactly one sentence, without the prompt")
def one_sentence(answer, model, tokenizer) -> str:
    """a function that returns one sentence, and nothing of the prompt."""
    for prompt in ["Once upon a time", 'My mother always said: "You', "Water boils at"]:
        text = run(answer, model, tokenizer, prompt)
        if not isinstance(text, str):
            raise Hint(f"Return the text, a str: decode the ids. Came: {type(text).__name__}.")
        if text.strip().startswith(prompt):
            raise Hint("The prompt is still there: decode only the ids after it, `ids[0, prompt_length:]`.")
        if "<|im_end|>" in text:
            raise Hint("The end token is in the text: decode with skip_special_tokens=True.")
        if not text.strip():
            raise Hint(f"Nothing came for {prompt!r}: is all of the output cut off?")
        if _whole(model, tokenizer, prompt).strip()[:-1] == text.strip():
            raise Hint("Only the full stop is missing: it belongs to the sentence, and generate keeps the stop string.")
        ends = re.findall(r"[.!?](?=\s|$)", text.strip())
        if more := re.search(r"[.!?]([^\w\s.!?]+)$", text.strip()):
            raise Hint(
                f"After the full stop comes {more[1]!r}: the last token holds both. Cut the text after the sign."
            )
        if not text.strip().endswith((".", "!", "?")):
            raise Hint(f"This sentence is cut off: {text!r}. Allow more tokens, and stop at the full stop.")
        if len(ends) > 1:
            raise Hint(f"There are {len(ends)} sentences: {text!r}. Stop strings end a row where a text appears.")
    return "Three prompts, three sentences: stop_strings ends the call, and two cuts leave the sentence alone."
