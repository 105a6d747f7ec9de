"""Exercises of lesson 5."""

import torch
from transformers import TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

from pitfalls.language import N_, _, ngettext
from pitfalls.practice.feedback import Hint, equal, exercise, run
from pitfalls.practice.prediction import question

question(
    "05",
    N_("The model writes 20 tokens, about four sentences. How many different ones are among them?"),
    """start = tokenizer("I am a cat.", return_tensors="pt").to(model.device)
ids = model.generate(**start, max_new_tokens=20)[0, start["input_ids"].shape[1] :]
len(set(tokenizer.decode(ids).strip(" .").split(". ")))""",
    {
        1: N_("Every sentence makes itself likelier, and generate always takes the likeliest token: a loop."),
        2: N_("It would have to leave its loop once. Always taking the likeliest token, it never does."),
        4: N_(
            "Without a word from you nothing is drawn: the likeliest token is taken each time, and that "
            "brings no variety."
        ),
    },
)


TOY = torch.tensor([3.0, 2.5, 2.2, 2.0, 1.0, 0.5, 0.2, 0.0, -2.0])
DRAWS = 3000
ONE, MANY, SEVERAL, SAME = "one right answer", "many good answers", "several to choose from", "the same text every run"
TASKS = {  # the mode, the reason, what to say where the mode is wrong, and where only the reason is
    "find the date in an invoice": (
        *("greedy", ONE, N_("There is one date to find: nothing is won by variety.")),
        N_("What makes a draw harmful here? The date is either right or wrong."),
    ),
    "tell a bedtime story": (
        *("sample", MANY, N_("A greedy story soon goes round in circles, as the cat did.")),
        N_("One story is enough here. Why may it differ every evening?"),
    ),
    "write five slogans for one product": (
        *("sample", SEVERAL, N_("Greedy decoding would write the same slogan five times.")),
        N_("Look at the number: what do the slogans differ for?"),
    ),
    "is this review positive or negative?": (
        *("greedy", ONE, N_("The likelier of two labels is your best guess: a draw sometimes takes the other one.")),
        N_("What can be said of the two labels? Only one of them fits."),
    ),
    "compare the outputs of two versions of a program": (
        *("greedy", SAME, N_("Two draws differ even where the program didn't change.")),
        N_("No text is right or wrong here. What must not change between two runs?"),
    ),
    "chat about the weather": (
        *("sample", MANY, N_("Always the likeliest reply is a dull one: here a little variety helps.")),
        N_("One reply is given at a time. Why need it not always be the same one?"),
    ),
}


@exercise("05", N_("Temperature, top-k and top-p by hand"))
def sampling_by_hand(answer, model, tokenizer) -> str:
    """a function that returns two tensors: the probabilities, and the ids drawn by them."""
    ids = tokenizer("I am a cat.", return_tensors="pt").input_ids.to(model.device)
    with torch.no_grad():
        real = model(input_ids=ids).logits[0, -1].float().cpu()
    for logits in (TOY, real):
        everything = len(logits)
        for settings in [(0.5, everything, 1.0), (1.0, 3, 1.0), (1.0, everything, 0.7), (2.0, 5, 0.8)]:
            probabilities, drawn = _two_tensors(answer, logits, *settings)
            _compare_probabilities(probabilities, logits, *settings)
            _compare_draws(drawn, _warped(logits, *_warpers(*settings)))
    return _(
        "Yours are the probabilities of transformers' own code, and {draws:,} draws follow them each time.", draws=DRAWS
    )


def _two_tensors(answer, logits, *settings) -> tuple[torch.Tensor, torch.Tensor]:
    with torch.random.fork_rng(devices=[]):  # the reader's own random numbers continue as if nothing had been drawn
        torch.manual_seed(0)
        try:
            result = run(answer, logits.clone(), *settings, DRAWS)
        except Hint as hint:
            said = str(hint.__cause__)  # PyTorch's own words
            if "replacement" in said:
                raise Hint(
                    _("A token can be drawn many times: torch.multinomial needs replacement=True for that.")
                ) from None
            if "invalid multinomial" in said or "probability tensor" in said:
                told = _("These can't be drawn from. The best token always stays, and none is below 0.")
                raise Hint(told + "\n" + hint.args[0]) from None
            raise
    if not isinstance(result, tuple) or len(result) != 2 or not all(isinstance(part, torch.Tensor) for part in result):
        raise Hint(_("Return two tensors: `return probabilities, ids`."))
    probabilities, drawn = result
    equal(tuple(probabilities.shape), tuple(logits.shape), _("probabilities of this shape, one for each token"))
    equal(tuple(drawn.shape), (DRAWS,), _("drawn ids of this shape"))
    return probabilities.detach().double(), drawn


def _warpers(temperature, top_k, top_p) -> list:
    return [TemperatureLogitsWarper(temperature), TopKLogitsWarper(top_k), TopPLogitsWarper(top_p)]  # as in generate


def _warped(logits, *warpers) -> torch.Tensor:
    scores = logits[None]
    for warper in warpers:
        scores = warper(None, scores)
    return scores[0].softmax(-1).double()


def _compare_probabilities(given, logits, temperature, top_k, top_p) -> None:
    hot, best, nucleus = _warpers(temperature, top_k, top_p)
    expected = _warped(logits, hot, best, nucleus)
    if torch.allclose(given, expected, atol=1e-4):
        return
    settings = f"temperature={temperature}, top_k={top_k}, top_p={top_p}"
    if given.isnan().any() or given.sum() == 0:
        raise Hint(_("With {settings}: nothing is left to draw. The best token always stays.", settings=settings))
    if abs(given.sum() - 1) > 1e-3:
        raise Hint(
            _(
                "With {settings}: your probabilities add up to {total:.3f}. What is left must add up to 1 again.",
                settings=settings,
                total=given.sum(),
            )
        )
    crossing = expected.masked_fill(expected == 0, 2).argmin()
    without = expected.clone()
    without[crossing] = 0
    inverse, one_more = TemperatureLogitsWarper(1 / temperature), TopKLogitsWarper(top_k + 1)
    for wrong, hint in [
        (_warped(logits, inverse, best, nucleus), N_("With {settings}: divide by the temperature.")),
        (_warped(logits, best, nucleus), N_("With {settings}: the temperature has no effect yet.")),
        (_warped(logits, hot, one_more, nucleus), N_("With {settings}: top-k keeps {top_k} tokens, not one more.")),
        (_warped(logits, best, nucleus, hot), N_("With {settings}: the temperature comes first, before the filters.")),
        (without / without.sum(), N_("With {settings}: the token with which the sum crosses top_p stays in.")),
        (
            _warped(logits, hot, nucleus, best),
            N_("With {settings}: top-k comes before top-p, which looks at what top-k has left."),
        ),
        (_warped(logits, hot, best), N_("With {settings}: top-p has no effect yet.")),
        (_warped(logits, hot, nucleus), N_("With {settings}: top-k has no effect yet.")),
    ]:
        if torch.allclose(given, wrong, atol=1e-4):
            raise Hint(_(hint, settings=settings, top_k=top_k))
    raise Hint(
        ngettext(
            "With {settings}: Expected {n} token that can be drawn, the best with {best:.4f}. "
            "Came: {came}, the best with {best_of_yours:.4f}.",
            "With {settings}: Expected {n} tokens that can be drawn, the best with {best:.4f}. "
            "Came: {came}, the best with {best_of_yours:.4f}.",
            int((expected > 0).sum()),
            settings=settings,
            best=expected.max(),
            came=int((given > 0).sum()),
            best_of_yours=given.max(),
        )
    )


def _compare_draws(drawn, probabilities) -> None:
    if drawn.is_floating_point() or drawn.min() < 0 or drawn.max() >= len(probabilities):
        raise Hint(_("The drawn ids are no token ids: they are whole numbers, places in the tensor of probabilities."))
    if (probabilities[drawn] == 0).any():
        raise Hint(_("A token with probability 0 was drawn: draw from the probabilities that the filters left."))
    if (drawn == drawn[0]).all() and probabilities.max() < 0.99:
        raise Hint(_("All draws gave the same token. That is greedy decoding; draw with torch.multinomial."))
    counts = torch.bincount(drawn, minlength=len(probabilities))
    wanted = DRAWS * probabilities
    off = (counts - wanted).abs() - 5 * (wanted * (1 - probabilities)).sqrt() - 1
    if off.max() > 0:  # more than five standard deviations
        worst = int(off.argmax())
        told = _(
            "The draws don't follow the probabilities. "
            "Expected token {token} in about {expected:.1%} of the draws. Came: {came:.1%}.",
            token=worst,
            expected=wanted[worst] / DRAWS,
            came=counts[worst] / DRAWS,
        )
        raise Hint(told)


@exercise("05", N_("The right decoding mode for six tasks, with reasons"))
def modes_for_tasks(answer, model, tokenizer) -> str:
    """a dict with a mode and a reason for each of the six tasks."""
    if not isinstance(answer, dict) or set(answer) != set(TASKS):
        raise Hint(_("Expected a dict with these keys; keep those of the stub: {keys}.", keys=list(TASKS)))
    for task, (mode, reason, wrong_mode, wrong_reason) in TASKS.items():
        given = answer[task]
        if not isinstance(given, (tuple, list)) or len(given) != 2:
            raise Hint(
                _(
                    "{task}: expected a mode and a reason, {example} for example. Came: {given!r}.",
                    task=task,
                    example=("greedy", ONE),
                    given=given,
                )
            )
        if given[0] not in ("greedy", "sample"):
            raise Hint(_("{task}: the mode is 'greedy' or 'sample'. Came: {given!r}.", task=task, given=given[0]))
        if given[1] not in (ONE, MANY, SEVERAL, SAME):
            raise Hint(_("{task}: choose a reason of the four. Came: {given!r}.", task=task, given=given[1]))
        if given[0] != mode:
            raise Hint(_("{task}: {said}", task=task, said=_(wrong_mode)))
        if given[1] != reason:
            raise Hint(_("{task}: the mode is right. {said}", task=task, said=_(wrong_reason)))
    return _("Ask what a draw can win and what it can lose: that decides, not the size of the model.")
