"""A figure of assisted decoding: what each call of the model checked, and what it gave."""

from collections.abc import Sequence

import torch
from matplotlib.patches import Patch
from transformers import PreTrainedTokenizerBase

from pitfalls.language import N_, _, ngettext
from pitfalls.pictures.drawing import LETTERS, STYLES, Picture, canvas, draw_cells, token_text, visible
from pitfalls.pictures.sources import ids_of

KEPT, WRONG, OWN = N_("a guess, kept"), N_("a guess, wrong"), N_("the model's own token")
LOOKS = {KEPT: "prompt", WRONG: "padding", OWN: "new"}


def guesses(
    new: torch.Tensor | Sequence[int],
    guessed: Sequence[Sequence[int]],
    tokenizer: PreTrainedTokenizerBase,
    title: str | None = None,
) -> Picture:
    """What each call of the model gave: the guesses that it kept, those that were wrong, and one token of its own.

    `new` are the new ids, of shape (tokens,); `guessed` holds the ids that were guessed for each call, in order.
    """
    calls = results(ids_of(new), guessed)
    looks = [how for call in calls for how, token in call]
    title = title or ngettext(
        "{n} calls for {tokens} tokens: {kept} were guessed",
        "{n} calls for {tokens} tokens: {kept} were guessed",
        len(calls),
        tokens=len(looks) - looks.count(WRONG),
        kept=looks.count(KEPT),
    )
    lines = [[(visible(token_text(tokenizer, token)), "", LOOKS[how]) for how, token in call] for call in calls]
    given = [
        ", ".join(f"'{box[0]}' {_(how)}" for box, (how, token) in zip(line, call, strict=True))
        for line, call in zip(lines, calls, strict=True)
    ]
    told = "; ".join(_("call {call}: {tokens}", call=n, tokens=tokens) for n, tokens in enumerate(given, start=1))
    alt = _("Tokens, call by call. {calls}", calls=told)
    figure, axis = canvas(0.85 + 0.3 * len(lines), title, alt, below=0.3)
    draw_cells(axis, lines, height=0.7)
    axis.set_xlim(-9, LETTERS - 9)
    for y in range(len(lines)):
        axis.text(-1, y, _("call {call}", call=y + 1), ha="right", va="center", fontsize=9)
    marks = [Patch(label=_(how), **STYLES[style]) for how, style in LOOKS.items()]
    figure.legend(handles=marks, loc="lower left", ncols=len(marks), fontsize=8, frameon=False)
    return figure


def results(new: list[int], guessed: Sequence[Sequence[int]]) -> list[list[tuple[str, int]]]:
    """[1, 2, 3, 4], [[1, 2], [9]] → [[kept 1, kept 2, own 3], [own 4, wrong 9]]: the wrong ones stand last."""
    calls, place = [], 0
    for guess in guessed:
        left = new[place:]
        kept = next(
            (n for n, pair in enumerate(zip(guess, left, strict=False)) if pair[0] != pair[1]),
            min(len(guess), len(left)),
        )
        call = [(KEPT, token) for token in guess[:kept]] + [(OWN, token) for token in left[kept : kept + 1]]
        calls.append(call + [(WRONG, token) for token in guess[kept:]])
        place += kept + 1
    return calls
