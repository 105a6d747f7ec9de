"""Exercises of lesson 3."""

from math import isclose

import torch

from pitfalls.language import N_, _
from pitfalls.practice.feedback import Hint, equal, exercise, run
from pitfalls.practice.prediction import question

question(
    "03",
    N_("One call of the model: what shape does its answer have?"),
    """answer = model(**inputs)
tuple(answer.logits.shape)""",
    {
        (1, 9): N_("That would be the prompt with one more token. The model chooses no token; that is for us to do."),
        (8, 49152): N_("Almost: there is one more dimension in front, for the texts of a batch."),
        (1, 28): N_(
            "The prompt and 20 new tokens: that is what `generate` returns. This is one call of the model itself."
        ),
        (
            1,
            49152,
        ): N_(
            "One score for each token of the vocabulary, but at one position only. The model answers at all of them."
        ),
        (1, 8, 49152): N_("At each of the 8 positions, one score for each token of the vocabulary."),
    },
)


BUDGETS = {"A list of colors: red, blue": 2, "What is the capital of Japan?": 2}  # the second ends at once
TEXTS = ["The capital of Japan is Tokyo.", "A list of colors: red, blue"]


@exercise("03", N_("The greedy loop"))
def greedy_loop(answer, model, tokenizer) -> str:
    """a function that returns ids of shape (1, tokens), equal to those of generate."""
    if "generate" in getattr(getattr(answer, "__code__", None), "co_names", ()):
        raise Hint(_("This calls generate. Write the loop that is inside it: model(ids), choose, append, stop."))
    for prompt, most in BUDGETS.items():
        given = _ids(run(answer, model, tokenizer, prompt, most))
        inputs = tokenizer(prompt, return_tensors="pt").to(model.device)
        expected = model.generate(**inputs, max_new_tokens=most, do_sample=False)[0].tolist()
        if given != expected:
            ids = inputs["input_ids"]
            _explain(given, expected, ids[0].tolist(), most)
            _took_the_first_row(given, ids, model)
            equal(given, expected, _("the ids for {prompt!r} with at most {n} new tokens", prompt=prompt, n=most))
    return _("The same ids as generate: your loop chooses, appends, and stops at the end token or at the budget.")


def _ids(given) -> list[int]:
    if isinstance(given, str):
        raise Hint(_("This is text. Return the ids; decoding comes after the loop."))
    if given is None:
        raise Hint(_("Your function returns nothing: its last line is `return ids`."))
    try:
        ids = torch.as_tensor(given)
    except Exception:
        ids = torch.tensor(0)
    if ids.ndim not in (1, 2) or (ids.ndim == 2 and len(ids) != 1):
        raise Hint(_("Return the ids as a tensor of shape (1, tokens). Came: {kind}.", kind=type(given).__name__))
    return ids.flatten().tolist()


def _explain(given: list[int], expected: list[int], prompt: list[int], most: int) -> None:
    """Raise the hint of a typical mistake."""
    start = len(prompt)
    ended = len(expected) < start + most
    if given == prompt and not ended:
        raise Hint(_("Only the prompt came back: append the chosen id to `ids` with torch.cat."))
    if given == expected[start:]:
        raise Hint(_("These are only the new tokens. generate returns the prompt too."))
    if ended and given == expected[:-1]:
        raise Hint(_("The end token is missing: append it first, then stop."))
    if ended and given[: len(expected)] == expected:
        raise Hint(_("The loop continues after the end token: stop when the chosen id is tokenizer.eos_token_id."))
    if given[: len(expected)] == expected or given == expected[:-1]:
        came = len(given) - start
        raise Hint(_("{most} new tokens were allowed, and {came} came: count the steps again.", most=most, came=came))


def _took_the_first_row(given: list[int], ids: torch.Tensor, model) -> None:
    with torch.no_grad():
        first = model(ids).logits[0, 0].argmax().item()
    if given[ids.shape[1] : ids.shape[1] + 1] == [first]:
        raise Hint(
            _("This token follows the first word of the prompt. The next one is in the last row: logits[0, -1].")
        )


@exercise("03", N_("How probable is a text"))
def text_probability(answer, model, tokenizer) -> str:
    """a function that returns one number, the logarithm of a probability."""
    for text in TEXTS:
        ids = tokenizer(text, return_tensors="pt")["input_ids"].to(model.device)
        given = _number(run(answer, model, ids))
        with torch.no_grad():
            output = model(ids, labels=ids)
        expected = -output.loss.item() * (ids.shape[1] - 1)  # the loss is a mean, with the sign changed
        if isclose(given, expected, rel_tol=0.005):
            continue
        for value, hint in _slips(output.logits[0].float(), ids[0], expected):
            if isclose(given, value, rel_tol=0.005):
                raise Hint(hint)
        values = {"text": text, "expected": expected, "given": given}
        raise Hint(_("Expected the log-probability of {text!r}: {expected:.3f}. Came: {given:.3f}.", **values))
    return _(
        "Both texts get the number that the model's own loss stands for. Now you can ask which of two texts it prefers."
    )


def _number(given) -> float:
    if isinstance(given, torch.Tensor) and given.numel() == 1:
        return given.item()
    if isinstance(given, torch.Tensor):
        shape = tuple(given.shape)
        raise Hint(_("Return one number: sum over the tokens. Came: a tensor of shape {shape}.", shape=shape))
    if not isinstance(given, (int, float)):
        raise Hint(_("Return one number. Came: {kind}.", kind=type(given).__name__))
    return float(given)


def _slips(logits: torch.Tensor, ids: torch.Tensor, expected: float) -> list[tuple[float, str]]:
    """What typical mistakes give for these logits, and what to say of each."""
    following = ids[1:, None]
    scores = logits.log_softmax(-1)
    across = logits[:-1].log_softmax(0).gather(1, following).sum().item()
    shift = _("Each row of scores is about the next token: take logits[0, :-1] with ids[0, 1:].")
    count = len(following)
    return [
        (-expected, _("The sign: the logarithm of a probability is never above 0.")),
        (expected / count, _("This is the mean over the tokens. The logarithms are added up.")),
        (-expected / count, _("This is the loss: the mean with the sign changed. Add up the logarithms instead.")),
        (torch.tensor(expected).exp().item(), _("This is the probability itself. Return its logarithm.")),
        (scores.gather(1, ids[:, None]).sum().item(), shift),
        (scores[1:].gather(1, following).sum().item(), shift),
        (
            scores[:-1].exp().gather(1, following).sum().item(),
            _("Probabilities of steps aren't added. Add logarithms."),
        ),
        (logits[:-1].gather(1, following).sum().item(), _("These are raw scores: take log_softmax of them first.")),
        (across, _("The softmax runs over the tokens of the text. It belongs over the vocabulary: dim=-1.")),
    ]
