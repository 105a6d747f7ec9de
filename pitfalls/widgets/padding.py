"""A batch with its pads on either side, with or without a mask."""

from collections.abc import Sequence
from itertools import chain, product
from typing import Any

import torch
from traitlets import Bool, Enum, Unicode

from pitfalls import pictures
from pitfalls.inspector.recording import record
from pitfalls.inspector.rows import Row
from pitfalls.language import N_, _, counted, nN_
from pitfalls.pictures.drawing import Picture, short, token_text, visible
from pitfalls.widgets.play import Play, check_window, module, signs

CONTINUED = 9  # new tokens of each row
SIDES = ("left", "right")
WORDS: dict[str, Any] = {
    "masked": nN_(
        "Padding {side}, the tokenizer's mask: {n} of {rows} rows as alone.",
        "Padding {side}, the tokenizer's mask: {n} of {rows} rows as alone.",
    ),
    "unmasked": nN_(
        "Padding {side}, a mask of ones: {n} of {rows} rows as alone.",
        "Padding {side}, a mask of ones: {n} of {rows} rows as alone.",
    ),
    "texts": N_("a text a line"),
    "side": N_("padding side"),
    "sides": {"left": N_("left"), "right": N_("right")},
    "mask": N_("attention mask"),
    "masks": {"true": N_("tokenizer's"), "false": N_("all ones")},
    "row": N_("row {row}"),
    "cells": {"0": N_("mask 0"), "1": N_("mask 1\npos {position}")},
    "goes_on": N_("row {row} →"),
    "alone": N_("alone →"),
    "legend": {"prompt": N_("prompt"), "padding": N_("masked"), "new": N_("new"), "changed": N_("not as alone")},
    "needs_notebook": N_("Other texts are for the model to continue: for that, run this cell in a notebook."),
}


class Padding(Play):
    """A batch of texts: its pads on either side, with or without a mask, and what each row goes on with.

    Tokens that differ from what the row gets alone are marked. `side` and `masked` can be given, to begin with.
    """

    _esm = module(__package__, "padding")
    texts = Unicode().tag(sync=True, asks=True)
    side = Enum(SIDES, "left").tag(sync=True)
    masked = Bool(True).tag(sync=True)

    def __init__(
        self, model: Any, tokenizer: Any, texts: Sequence[str] = ("1, 2, 3", "A, B, C, D, E"), **controls: Any
    ):
        self.model, self.tokenizer = model, tokenizer
        super().__init__(WORDS, texts="\n".join(texts), **controls)

    def lines(self) -> list[str]:
        """The texts of the box, one from each line."""
        texts = [line for line in self.texts.splitlines() if line]
        if not texts:
            raise ValueError(_("There is no text: write one on each line."))
        return texts

    def inputs(self) -> dict[str, torch.Tensor]:
        """What `generate` gets: ids and mask, both (rows, tokens)."""
        return self._inputs(self.side, self.masked)

    def _inputs(self, side: str, masked: bool) -> dict[str, torch.Tensor]:
        inputs = self.tokenizer(self.lines(), padding=True, padding_side=side, return_tensors="pt")
        if not masked:
            inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
        check_window(self.model, inputs["input_ids"].shape[1] + CONTINUED)
        return {name: inputs[name].to(self.model.device) for name in ("input_ids", "attention_mask")}

    def rows(self) -> list[Row]:
        """Each row of the batch, continued."""
        return self._states()[self.side, self.masked]

    def alone(self) -> list[Row]:
        """Each text continued by itself."""
        return self._ask(self.texts, lambda: [self._continue_alone(text) for text in self.lines()])

    def _continue_alone(self, text: str) -> Row:
        return self._continue(self.tokenizer(text, return_tensors="pt").to(self.model.device))[0]

    def _continue(self, inputs: Any) -> list[Row]:
        return record(self.model, self.tokenizer, inputs, max_new_tokens=CONTINUED, do_sample=False).rows

    def _states(self) -> dict[tuple[str, bool], list[Row]]:
        """The rows of both sides under both masks. All are as wide, so one call continues them, and each only once."""
        rows = {}
        for state in product(SIDES, (True, False)):
            ids, masks = (part.tolist() for part in self._inputs(*state).values())
            rows[state] = [(tuple(row), tuple(mask)) for row, mask in zip(ids, masks, strict=True)]
        each = list(dict.fromkeys(chain(*rows.values())))
        batch = (torch.tensor(part, device=self.model.device) for part in zip(*each, strict=True))
        inputs = dict(zip(("input_ids", "attention_mask"), batch, strict=True))
        new = self._ask(tuple(each), lambda: self._continue(inputs))
        continued = dict(zip(each, new, strict=True))
        return {state: [continued[row] for row in of] for state, of in rows.items()}

    def _same(self, rows: list[Row]) -> int:
        return sum(row.new_ids == alone.new_ids for row, alone in zip(rows, self.alone(), strict=True))

    def summary(self) -> str:
        rows = self.rows()
        forms = WORDS["masked" if self.masked else "unmasked"]
        return counted(forms, self._same(rows), side=_(WORDS["sides"][self.side]), rows=len(rows))

    def figure(self) -> Picture:
        texts = (short(visible(row.new_text), 60) for row in self.rows())
        shown = [_("row {row} → '{text}'", row=n, text=text) for n, text in enumerate(texts)]
        title = "\n".join([self.summary(), *shown])
        return pictures.padding({name: ids.cpu() for name, ids in self.inputs().items()}, self.tokenizer, title=title)

    def _data(self) -> dict[str, Any]:
        """For each state, as "left true": the batch as cells, and how each row goes on; and how each goes on alone."""
        alone = [self._compared(row.new_ids, row.new_ids) for row in self.alone()]
        states = {}
        for (side, masked), rows in self._states().items():
            inputs = self._inputs(side, masked)
            columns = zip(inputs["input_ids"].tolist(), inputs["attention_mask"].tolist(), strict=True)
            pairs = zip(rows, self.alone(), strict=True)
            states[f"{side} {str(masked).lower()}"] = {
                "grid": [self._cells(ids, mask) for ids, mask in columns],
                "new": [self._compared(row.new_ids, single.new_ids) for row, single in pairs],
                "same": self._same(rows),
            }
        return {"states": states, "alone": alone}

    def _cells(self, ids: list[int], mask: list[int]) -> list[tuple[str, int, int]]:
        """Of one row: each token with its mask and the position that `generate` gives it."""
        positions = torch.tensor(mask).cumsum(0).sub(1).tolist()
        pad = self.tokenizer.pad_token_id
        texts = ["pad" if token_id == pad else signs(token_text(self.tokenizer, token_id)) for token_id in ids]
        return list(zip(texts, mask, positions, strict=True))

    def _compared(self, new: list[int], alone: list[int]) -> list[tuple[str, str]]:
        same = [n < len(alone) and token_id == alone[n] for n, token_id in enumerate(new)]
        return [
            (signs(token_text(self.tokenizer, token_id)), "new" if equal else "changed")
            for token_id, equal in zip(new, same, strict=True)
        ]
