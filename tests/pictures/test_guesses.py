"""Figures of assisted decoding: which tokens were guessed, and which the model wrote itself."""

import torch

from pitfalls import pictures
from pitfalls.pictures.guesses import KEPT, OWN, WRONG, results
from tests.pictures.reading import check, is_style, seen, title


def test_each_call_keeps_right_guesses_and_adds_a_token_of_its_own():
    assert results([1, 2, 3, 4], [[1, 2], [9]]) == [[(KEPT, 1), (KEPT, 2), (OWN, 3)], [(OWN, 4), (WRONG, 9)]]
    assert results([1, 2], [[], []]) == [[(OWN, 1)], [(OWN, 2)]]
    assert results([1, 2], [[1, 2, 3]]) == [[(KEPT, 1), (KEPT, 2), (WRONG, 3)]], "the budget ended before its own"


def test_a_line_for_each_call(tokenizer):
    new = tokenizer("The capital of Japan is Tokyo.").input_ids
    figure = check(pictures.guesses(torch.tensor(new), [new[:2], [5], new[4:]], tokenizer))
    assert title(figure) == f"3 calls for {len(new)} tokens: {2 + len(new[4:])} were guessed"
    looks = [
        next(name for name in ("prompt", "padding", "new") if is_style(box, name)) for box in figure.axes[0].patches
    ]
    assert looks == ["prompt", "prompt", "new", "new", "padding"] + ["prompt"] * len(new[4:])
    assert "call 3" in seen(figure) and "call 2: '·Japan' the model's own token, " in figure.alt
    assert title(check(pictures.guesses(new[:1], [[]], tokenizer, "One"))) == "One"
