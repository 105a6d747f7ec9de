"""Exercises of lesson 9."""

import torch
from transformers import MinPLogitsWarper, TopPLogitsWarper

from pitfalls.practice.feedback import Hint, equal, exercise, run
from pitfalls.practice.prediction import question

question(
    "09",
    "16 tokens are wanted. How many times is the model called?",
    """line = "alpha, bravo, charlie, delta, echo, foxtrot, golf, hotel"
repeated = tokenizer(f"{line}\\n{line}\\n{line}\\nalpha, bravo,", return_tensors="pt").to(model.device)
calls = []
hook = model.register_forward_hook(lambda *_: calls.append(1))  # runs at each call of the model
model.generate(**repeated, max_new_tokens=16, prompt_lookup_num_tokens=3)
hook.remove()
len(calls)""",
    {
        16: "So it is without guesses. Here one call checks several tokens.",
        8: "The guesses are longer than one token, and all of them are right.",
        6: "Three right guesses a call would make six, if a call gave nothing but its guesses.",
        4: "Three right guesses, and one token more: what the model writes after them is known from the same call.",
        1: "The guess is three tokens long, not the whole answer.",
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


@exercise("09", "min-p by hand")
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
    return f"min_p=0.1 leaves {kept[0]} of {len(logits):,} tokens after {SURE!r}, and {kept[1]} after {OPEN!r}."


def _compare_min_p(given, scores: torch.Tensor, min_p: float) -> None:
    if not isinstance(given, torch.Tensor):
        raise Hint(f"Return a tensor of probabilities. Came: {type(given).__name__}.")
    equal(tuple(given.shape), tuple(scores.shape), "a probability for each token, of this shape")
    is_mask = given.dtype == torch.bool or (given.sum() > 1.5 and set(given.unique().tolist()) <= {0, 1})
    given, own = given.detach().double(), scores.double().softmax(-1)
    expected = MinPLogitsWarper(min_p)(None, scores[None].double())[0].softmax(-1)
    if torch.allclose(given, expected, atol=1e-5):
        return
    where = f"With min_p={min_p}: "
    if given.isnan().any() or given.sum() == 0:
        raise Hint(where + "nothing is left. The best token always stays: keep what is as large as the limit, too.")
    if given.min() < 0 or given.isinf().any() or torch.equal(given, scores.double()):
        raise Hint(where + "these are scores. `softmax` makes probabilities of them, as the last step.")
    if is_mask:
        raise Hint(where + "this says which tokens stay. Return their probabilities.")
    if abs(given.sum() - 1) > 1e-3:
        raise Hint(where + f"your probabilities add up to {given.sum():.3f}. What is left must add up to 1 again.")
    limit = own >= min_p
    for wrong, hint in [
        (own, "nothing has been cut off yet."),
        (own * limit / max(own[limit].sum(), 1e-9), "the limit is min_p times the probability of the best token, "
         "and not min_p itself."),
        (_kept(own, scores >= min_p * scores.max()), "compare probabilities, and not scores."),
        (_top_p(scores, min_p), "this is top-p: it adds the best ones up. min-p compares each with the best."),
        (_top_p(scores, 1 - min_p), "this is top-p: it adds the best ones up. min-p compares each with the best."),
        (_kept(own, own < min_p * own.max()), "the wrong ones were kept: those *below* the limit go."),
    ]:  # fmt: skip
        if torch.allclose(given, wrong, atol=1e-5):
            raise Hint(where + hint)
    raise Hint(
        where + f"expected {int((expected > 0).sum())} tokens that can be drawn, the best with {expected.max():.4f}. "
        f"Came: {int((given > 0).sum())}, the best with {given.max():.4f}."
    )


def _top_p(scores: torch.Tensor, top_p: float) -> torch.Tensor:
    return TopPLogitsWarper(top_p)(None, scores[None].double())[0].softmax(-1)


def _kept(own: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    left = own * mask
    return left / max(left.sum(), 1e-9)


@exercise("09", "Which settings gave these words?")
def settings_of_words(answer, model, tokenizer) -> str:
    """a dict with the settings of each of the four calls, A to D."""
    if not isinstance(answer, dict) or set(answer) != set(WORDS):
        raise Hint(f"Expected a dict with these keys; keep those of the stub: {list(WORDS)}.")
    ids = tokenizer(OPEN, return_tensors="pt").input_ids.to(model.device)
    with torch.no_grad():
        own = model(input_ids=ids).logits[0, -1].float().softmax(-1).cpu()
    for letter, (settings, words) in WORDS.items():
        given = answer[letter]
        if given not in SETTINGS:
            raise Hint(f"{letter}: choose one of {', '.join(map(repr, SETTINGS))}. Came: {given!r}.")
        tokens = [tokenizer(word, add_special_tokens=False)["input_ids"][0] for word in words]
        if given != settings:
            raise Hint(f"{letter}: {_against(given, words, own[tokens] / own.max(), own)}")
    return "What a setting cuts off never comes, and what it lets through comes sooner or later: texts show both."


def _against(settings: str, words: list[str], shares: torch.Tensor, own: torch.Tensor) -> str:
    """Why these words were not drawn so; `shares` are their probabilities as shares of the best one's."""
    different = len(set(words))
    second = (own.topk(2).values[-1] / own.max()).item()
    least = int(shares.argmin())
    if settings == "greedy" and different > 1:
        return f"greedy decoding gives one word only, and here are {different}."
    if settings == "top_k=2" and shares[least] < second - 1e-6:
        rank = int((own > shares[least] * own.max()).sum()) + 1
        return f"{words[least]!r} is number {rank:,} in the model's order, and top_k=2 keeps two."
    if settings == "min_p=0.1" and shares[least] < 0.1:
        return f"{words[least]!r} has {shares[least]:.1%} of the best word's probability, and min_p=0.1 cuts it off."
    shown = "one word only" if different == 1 else f"{different} different words"
    return f"these could come so, but with it others would be among them. Here: {shown}."
