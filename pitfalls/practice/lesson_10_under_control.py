"""Exercises of lesson 10."""

import torch

from pitfalls.inspector.watching import watch
from pitfalls.language import N_, _, ngettext
from pitfalls.practice.feedback import Hint, exercise, run
from pitfalls.practice.prediction import question

question(
    "10",
    N_("We forbid a word. What does the model answer?"),
    """chat = [{"role": "user", "content": "What is the capital of Japan?"}]
inputs = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_dict=True, return_tensors="pt")
inputs = inputs.to(model.device)
banned = tokenizer(["Tokyo"], add_special_tokens=False)["input_ids"]
ids = model.generate(**inputs, max_new_tokens=9, bad_words_ids=banned)[0, inputs["input_ids"].shape[1] :]
tokenizer.decode(ids, skip_special_tokens=True)""",
    {
        "The capital of Japan is Kyoto.": N_(
            "The next best city would be a good guess, if the ban were about the word. It is about token ids."
        ),
        "The capital of Japan is": N_(
            "A ban does not end a text: what is left is still drawn up, and one token is taken."
        ),
        "The capital of Japan is Tokyo.": N_(
            "The ban holds the ids of a word at the beginning of a text. Inside the sentence it is another token."
        ),
        "I can't say that.": N_("The model is not told of the ban. Only scores are changed, after it has given them."),
    },
)

DIGITS = "0123456789"


@exercise("10", N_("No digits"))
def no_digits(answer, model, tokenizer) -> str:
    """a function that takes the tokenizer, and returns a LogitsProcessor."""
    processor = run(answer, tokenizer)
    if isinstance(processor, type):
        raise Hint(_("Return an object and not the class: `return {name}()`.", name=processor.__name__))
    if isinstance(processor, (list, tuple)) and any(map(callable, processor)):
        raise Hint(_("Return the processor itself. The list around it is made where `generate` is called."))
    if not callable(processor):
        raise Hint(_("Expected a LogitsProcessor. Came: {kind}.", kind=type(processor).__name__))
    size = model.get_input_embeddings().num_embeddings
    pieces = tokenizer.batch_decode([[token] for token in range(min(size, len(tokenizer)))])
    digits = [token for token, piece in enumerate(pieces) if set(piece) & set(DIGITS)]
    scores = torch.linspace(-5, 5, 2 * size, device=model.device).reshape(2, size)
    before, ids = scores.clone(), torch.zeros((2, 3), dtype=torch.long, device=model.device)
    after = run(processor, ids, scores)
    if after is None:
        raise Hint(_("The processor returned None: `__call__` must end with `return scores`."))
    if not isinstance(after, torch.Tensor) or after.shape != before.shape:
        told = _(
            "`__call__` returns scores of the shape that it got, {shape}: (batch, vocabulary).",
            shape=tuple(before.shape),
        )
        raise Hint(told)
    _compare(after, before, digits, pieces)
    inputs = tokenizer("1, 2, 3", return_tensors="pt").to(model.device)
    new = model.generate(**inputs, max_new_tokens=5, logits_processor=[processor])[0, inputs["input_ids"].shape[1] :]
    text = tokenizer.decode(new, skip_special_tokens=True)
    return _(
        "{digits} of {all:,} tokens hold a digit, and none gets through: '1, 2, 3' continues {text!r}.",
        digits=len(digits),
        all=len(pieces),
        text=text,
    )


def _compare(after: torch.Tensor, before: torch.Tensor, digits: list[int], pieces: list[str]) -> None:
    open_ = [token for token in digits if after[0, token] != -torch.inf]
    others = [token for token in range(before.shape[1]) if token not in set(digits)]
    if open_ and len(open_) == len(digits):
        changed = (after != before).any() and not after.isinf().any()
        if changed and (after[:, digits] == 0).all():
            raise Hint(
                _("A score of 0 forbids nothing: other scores are below it. The score for 'never' is -torch.inf.")
            )
        if changed:
            raise Hint(_("Digits are less likely now, but can still come. The score for 'never' is -torch.inf."))
        raise Hint(_("No digit is forbidden yet: the scores come back as they were."))
    if open_:
        told = ngettext(
            "{n} tokens with a digit still get through, {token!r} for example.",
            "{n} tokens with a digit still get through, {token!r} for example.",
            len(open_),
            token=pieces[open_[0]],
        )
        raise Hint(told)
    if (after[1, digits] != -torch.inf).any():
        raise Hint(_("Only the first row is ruled. `scores` has a row for each text: change all, `scores[:, ids]`."))
    if after[:, others].isinf().all():
        raise Hint(_("Nothing is left that could be written: only tokens with a digit are to go."))
    lost = [token for token in others if after[0, token] == -torch.inf]
    allowed = [token for token in lost if not any(letter.isdigit() or letter.isnumeric() for letter in pieces[token])]
    if allowed:
        told = ngettext(
            "{token!r} has no digit and is forbidden too; {n} such tokens are.",
            "{token!r} has no digit and is forbidden too; {n} such tokens are.",
            len(allowed),
            token=pieces[allowed[0]],
        )
        raise Hint(told)
    kept = [token for token in others if token not in set(lost)]
    if not torch.equal(after[:, kept], before[:, kept]):
        raise Hint(_("The scores of tokens without a digit have changed: give them back as they came."))


@exercise("10", N_("How probable was this answer?"))
def answer_probability(answer, model, tokenizer) -> str:
    """a function that returns the log-probability of the new tokens, as a number."""
    inputs = tokenizer("Once upon a time there was a small", return_tensors="pt").to(model.device)
    settings = {"max_new_tokens": 6, "do_sample": True, "temperature": 0.5, "top_k": 5}
    with torch.random.fork_rng(devices=[]), watch(model, tokenizer) as calls:  # the reader's own random numbers stay
        torch.manual_seed(1)
        given = run(answer, model, inputs, **settings)
    if not calls:
        raise Hint(_("`generate` was not called. Its answer is what we ask about."))
    call = calls[-1]
    if not call.samples or call.get("temperature") != 0.5 or call.get("top_k") != 5:
        raise Hint(_("Hand the settings on: `model.generate(**inputs, **settings, …)`."))
    ids = torch.tensor([[*call.rows[0].prompt_ids, *call.rows[0].new_ids]], device=model.device)
    if isinstance(given, torch.Tensor) and given.numel() != 1:
        raise Hint(_("Return one number for the whole answer: add the {values} values up.", values=given.numel()))
    try:
        number = float(given)
    except (TypeError, ValueError):
        raise Hint(_("Return a number. Came: {kind}.", kind=type(given).__name__)) from None
    _explain_number(number, ids, call.width, model)
    new = ids.shape[1] - call.width
    return _(
        "The model gives these {tokens} tokens {number:.2f} together, before temperature and top-k.",
        tokens=new,
        number=number,
    )


def _explain_number(number: float, ids: torch.Tensor, start: int, model) -> None:
    with torch.no_grad():
        logits = model(input_ids=ids).logits[:, :-1].float()  # (1, tokens - 1, vocabulary)
    own = _of(logits, ids)
    ruled = _of((logits / 0.5).masked_fill(logits < logits.topk(5).values[..., -1:], -torch.inf), ids)
    raw = logits.gather(2, ids[:, 1:, None])[0, :, 0]
    first = start - 1  # of the new tokens
    wanted = own[first:].sum().item()
    if abs(number - wanted) < 0.02:
        return
    for wrong, hint in [
        (own[first:].mean().item(), N_("This is the mean for a token: the tokens of an answer are added up.")),
        (own.sum().item(), N_("The prompt is counted in: only the new tokens are asked for.")),
        (own.mean().item(), N_("This is the mean over the prompt, too: add up the new tokens only.")),
        (ruled[first:].sum().item(), N_("These are probabilities after temperature and top-k: take `output_logits`.")),
        (raw[first:].sum().item(), N_("These are logits and not log-probabilities: `normalize_logits=True`.")),
        (
            (raw[first:] / 0.5).sum().item(),
            N_(
                "These are scores after the temperature, not log-probabilities: "
                "`output_logits`, and `normalize_logits=True`."
            ),
        ),
        (
            own[first:].sum().exp().item(),
            N_("This is the probability: leave the logarithm, it doesn't become too small."),
        ),
        (-wanted, N_("The sign: a logarithm of a probability is below 0.")),
    ]:
        if abs(number - wrong) < 0.02 and abs(wrong - wanted) >= 0.02:
            raise Hint(_(hint))
    raise Hint(
        _(
            "Expected {wanted:.2f} for the {tokens} new tokens. Came: {number:.2f}.",
            wanted=wanted,
            tokens=ids.shape[1] - start,
            number=number,
        )
    )


def _of(logits: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    """The log-probability of each token but the first, (tokens - 1,)."""
    return logits.log_softmax(-1).gather(2, ids[:, 1:, None])[0, :, 0]
