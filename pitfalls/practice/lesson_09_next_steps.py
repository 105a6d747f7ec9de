"""Exercises of lesson 9."""

from typing import NoReturn

import torch
from transformers import MinPLogitsWarper, TopPLogitsWarper

from pitfalls.language import N_, _, ngettext
from pitfalls.practice.feedback import Hint, equal, exercise, run
from pitfalls.practice.prediction import question

question(
    "09",
    N_("16 tokens are wanted. How many times is the model called?"),
    """line = "alpha, bravo, charlie, delta, echo, foxtrot, golf, hotel"
repeated = tokenizer(f"{line}\\n{line}\\n{line}\\nalpha, bravo,", return_tensors="pt").to(model.device)
calls = []
hook = model.register_forward_hook(lambda *_: calls.append(1))  # runs at each call of the model
model.generate(**repeated, max_new_tokens=16, prompt_lookup_num_tokens=3)
hook.remove()
len(calls)""",
    {
        16: N_("So it is without guesses. Here one call checks several tokens."),
        8: N_("The guesses are longer than one token, and all of them are right."),
        6: N_("Three right guesses a call would make six, if a call gave nothing but its guesses."),
        4: N_("Three right guesses, and one token more: what the model writes after them is known from the same call."),
        1: N_("The guess is three tokens long, not the whole answer."),
    },
)

SURE, OPEN = "The capital of Japan is", "Once upon a time there was a"
SETTINGS = ("greedy", "top_k=2", "min_p=0.1", "temperature=2.0")
WORDS = {  # drawn after OPEN
    "A": ("min_p=0.1", [" man", " group", " town", " young", " king", " kingdom"]),
    "B": ("temperature=2.0", [" man", " close", " wel", " Cassini", " developer", " cozy"]),
    "C": ("greedy", [" small"] * 6),
    "D": ("top_k=2", [" town", " small", " town", " town", " small", " town"]),
}
TOY = torch.tensor([3.0, 2.5, 2.2, 2.0, 1.0, 0.5, 0.2, 0.0, -2.0])


@exercise("09", N_("min-p by hand"))
def min_p_by_hand(answer, model, tokenizer) -> str:
    """a function that returns a tensor of probabilities."""
    kept = []
    for prompt in (SURE, OPEN):
        ids = tokenizer(prompt, return_tensors="pt").input_ids.to(model.device)
        with torch.no_grad():
            logits = model(input_ids=ids).logits[0, -1].float().cpu()
        for scores, min_p in ((TOY, 0.2), (logits, 0.1), (logits, 0.02), (TOY, 1.0)):
            _compare_min_p(run(answer, scores.clone(), min_p), scores, min_p)
        kept.append(int(torch.isfinite(MinPLogitsWarper(0.1)(None, logits[None])).sum()))
    return _(
        "min_p=0.1 leaves {few} of {all:,} tokens after {sure!r}, and {many} after {open!r}.",
        few=kept[0],
        all=len(logits),
        sure=SURE,
        many=kept[1],
        open=OPEN,
    )


def _compare_min_p(given, scores: torch.Tensor, min_p: float) -> None:
    if not isinstance(given, torch.Tensor):
        raise Hint(_("Return a tensor of probabilities. Came: {kind}.", kind=type(given).__name__))
    equal(tuple(given.shape), tuple(scores.shape), _("a probability for each token, of this shape"))
    is_mask = given.dtype == torch.bool or (given.sum() > 1.5 and set(given.unique().tolist()) <= {0, 1})
    given = given.detach().double()
    expected = MinPLogitsWarper(min_p)(None, scores[None].double())[0].softmax(-1)
    if torch.allclose(given, expected, atol=1e-5):
        return
    if given.isnan().any() or given.sum() == 0:
        told = N_("With min_p={min_p}: nothing is left. The best token always stays: keep what is as large as the "
                  "limit, too.")  # fmt: skip
    elif given.min() < 0 or given.isinf().any() or torch.equal(given, scores.double()):
        told = N_("With min_p={min_p}: these are scores. `softmax` makes probabilities of them, as the last step.")
    elif is_mask:
        told = N_("With min_p={min_p}: this says which tokens stay. Return their probabilities.")
    elif abs(given.sum() - 1) > 1e-3:
        told = N_("With min_p={min_p}: your probabilities add up to {total:.3f}. What is left must add up to 1 again.")
    else:
        _explain_min_p(given, expected, scores, min_p)
    raise Hint(_(told, min_p=min_p, total=given.sum()))


TOP_P = N_("With min_p={min_p}: this is top-p: it adds the best ones up. min-p compares each with the best.")


def _explain_min_p(given: torch.Tensor, expected: torch.Tensor, scores: torch.Tensor, min_p: float) -> NoReturn:
    own = scores.double().softmax(-1)
    limit = own >= min_p
    for wrong, hint in [
        (own, N_("With min_p={min_p}: nothing has been cut off yet.")),
        (
            own * limit / max(own[limit].sum(), 1e-9),
            N_("With min_p={min_p}: the limit is min_p times the probability of the best token, and not min_p itself."),
        ),
        (
            _kept(own, scores >= min_p * scores.max()),
            N_("With min_p={min_p}: compare probabilities, and not scores."),
        ),
        (_top_p(scores, min_p), TOP_P),
        (_top_p(scores, 1 - min_p), TOP_P),
        (
            _kept(own, own < min_p * own.max()),
            N_("With min_p={min_p}: the wrong ones were kept: those *below* the limit go."),
        ),
    ]:
        if torch.allclose(given, wrong, atol=1e-5):
            raise Hint(_(hint, min_p=min_p))
    told = ngettext(
        "With min_p={min_p}: expected {n} tokens that can be drawn, the best with {best:.4f}. "
        "Came: {came}, the best with {best_of_yours:.4f}.",
        "With min_p={min_p}: expected {n} tokens that can be drawn, the best with {best:.4f}. "
        "Came: {came}, the best with {best_of_yours:.4f}.",
        int((expected > 0).sum()),
        min_p=min_p,
        best=expected.max(),
        came=int((given > 0).sum()),
        best_of_yours=given.max(),
    )
    raise Hint(told)


def _top_p(scores: torch.Tensor, top_p: float) -> torch.Tensor:
    return TopPLogitsWarper(top_p)(None, scores[None].double())[0].softmax(-1)


def _kept(own: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    left = own * mask
    return left / max(left.sum(), 1e-9)


@exercise("09", N_("Which settings gave these words?"))
def settings_of_words(answer, model, tokenizer) -> str:
    """a dict with the settings of each of the four calls, A to D."""
    if not isinstance(answer, dict) or set(answer) != set(WORDS):
        raise Hint(_("Expected a dict with these keys; keep those of the stub: {keys}.", keys=list(WORDS)))
    ids = tokenizer(OPEN, return_tensors="pt").input_ids.to(model.device)
    with torch.no_grad():
        own = model(input_ids=ids).logits[0, -1].float().softmax(-1).cpu()
    for letter, (settings, words) in WORDS.items():
        given = answer[letter]
        if given not in SETTINGS:
            known = ", ".join(map(repr, SETTINGS))
            told = _("{letter}: choose one of {settings}. Came: {given!r}.", letter=letter, settings=known, given=given)
            raise Hint(told)
        tokens = [tokenizer(word, add_special_tokens=False)["input_ids"][0] for word in words]
        if given != settings:
            raise Hint(_against(letter, given, words, own[tokens] / own.max(), own))
    return _("What a setting cuts off never comes, and what it lets through comes sooner or later: texts show both.")


def _against(letter: str, settings: str, words: list[str], shares: torch.Tensor, own: torch.Tensor) -> str:
    """Why these words were not drawn so; `shares` are their probabilities as shares of the best one's."""
    different = len(set(words))
    second = (own.topk(2).values[-1] / own.max()).item()
    least = int(shares.argmin())
    if settings == "greedy" and different > 1:
        return _("{letter}: greedy decoding gives one word only, and here are {words}.", letter=letter, words=different)
    if settings == "top_k=2" and shares[least] < second - 1e-6:
        rank = int((own > shares[least] * own.max()).sum()) + 1
        told = N_("{letter}: {word!r} is number {rank:,} in the model's order, and top_k=2 keeps two.")
        return _(told, letter=letter, word=words[least], rank=rank)
    if settings == "min_p=0.1" and shares[least] < 0.1:
        told = N_("{letter}: {word!r} has {share:.1%} of the best word's probability, and min_p=0.1 cuts it off.")
        return _(told, letter=letter, word=words[least], share=shares[least])
    return ngettext(
        "{letter}: these could come so, but with it others would be among them. Here: one word only.",
        "{letter}: these could come so, but with it others would be among them. Here: {n} different words.",
        different,
        letter=letter,
    )
