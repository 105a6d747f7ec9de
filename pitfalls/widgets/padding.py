"""A batch with its pads on either side, with or without a mask."""

from collections.abc import Sequence
from typing import Any

import ipywidgets
import torch
from matplotlib.figure import Figure

from pitfalls import pictures
from pitfalls.inspector.recording import record
from pitfalls.inspector.rows import Row
from pitfalls.pictures.drawing import short, token_text, visible
from pitfalls.widgets import markup
from pitfalls.widgets.play import Play, check_window

CONTINUED = 12  # new tokens of each row


class Padding(Play):
    """A batch of texts: its pads on either side, with or without a mask, and what each row goes on with.

    Tokens that differ from what the row gets alone are marked.
    """

    def __init__(self, model: Any, tokenizer: Any, texts: Sequence[str] = ("1, 2, 3", "A, B, C, D, E")):
        self.model, self.tokenizer = model, tokenizer
        self.texts = ipywidgets.Textarea(
            "\n".join(texts), rows=max(2, len(texts)), description="a text a line", continuous_update=False
        )
        self.texts.add_class("pf-whole")
        self.side = ipywidgets.ToggleButtons(options=["left", "right"], description="padding side")
        self.mask = ipywidgets.ToggleButtons(options=["tokenizer's", "all ones"], description="attention mask")
        super().__init__(self.texts, self.side, self.mask)

    def lines(self) -> list[str]:
        """The texts of the box, one from each line."""
        texts = [line for line in self.texts.value.splitlines() if line]
        if not texts:
            raise ValueError("There is no text: write one on each line.")
        return texts

    def inputs(self) -> dict[str, torch.Tensor]:
        """What `generate` gets: ids and mask, both (rows, tokens)."""
        inputs = self.tokenizer(self.lines(), padding=True, padding_side=self.side.value, return_tensors="pt")
        if self.mask.value == "all ones":
            inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
        check_window(self.model, inputs["input_ids"].shape[1] + CONTINUED)
        return {name: inputs[name].to(self.model.device) for name in ("input_ids", "attention_mask")}

    def rows(self) -> list[Row]:
        """Each row of the batch, continued."""
        inputs = self.inputs()
        state = (self.texts.value, self.side.value, self.mask.value)
        return self._ask(state, lambda: self._continue(inputs))

    def alone(self) -> list[Row]:
        """Each text continued by itself."""
        return self._ask(self.texts.value, lambda: [self._continue_alone(text) for text in self.lines()])

    def _continue_alone(self, text: str) -> Row:
        return self._continue(self.tokenizer(text, return_tensors="pt").to(self.model.device))[0]

    def _continue(self, inputs: Any) -> list[Row]:
        return record(self.model, self.tokenizer, inputs, max_new_tokens=CONTINUED, do_sample=False).rows

    def summary(self) -> str:
        pairs = list(zip(self.rows(), self.alone(), strict=True))
        same = sum(row.new_ids == alone.new_ids for row, alone in pairs)
        mask = "the tokenizer's mask" if self.mask.value == "tokenizer's" else "a mask of ones"
        return (
            f"Padding {self.side.value}, {mask}: "
            f"{same} of {len(pairs)} rows {'equals its' if same == 1 else 'equal their'} single run."
        )

    def figure(self) -> Figure:
        shown = (f"row {n} → '{short(visible(row.new_text), 60)}'" for n, row in enumerate(self.rows()))
        title = "\n".join([self.summary(), *shown])
        return pictures.padding({name: ids.cpu() for name, ids in self.inputs().items()}, self.tokenizer, title=title)

    def _draw(self) -> str:
        inputs = self.inputs()
        columns = zip(inputs["input_ids"].tolist(), inputs["attention_mask"].tolist(), strict=True)
        rows = [(f"row {n}", self._cells(ids, mask)) for n, (ids, mask) in enumerate(columns)]
        lines = []
        for n, (row, alone) in enumerate(zip(self.rows(), self.alone(), strict=True)):
            lines.append(markup.line(f"row {n} →", self._compared(row.new_ids, alone.new_ids)))
            if row.new_ids != alone.new_ids:
                lines.append(markup.line("alone →", self._compared(alone.new_ids, alone.new_ids)))
        return markup.grid(rows) + "".join(lines) + markup.legend(["prompt", "padding", "new", "changed"])

    def _cells(self, ids: list[int], mask: list[int]) -> list[tuple[str, str, str]]:
        """Of one row: each token with its mask and the position that `generate` gives it."""
        cells, position = [], 0
        for token_id, seen in zip(ids, mask, strict=True):
            text = "pad" if token_id == self.tokenizer.pad_token_id else token_text(self.tokenizer, token_id)
            note = f"mask 1\npos {position}" if seen else "mask 0"
            cells.append((text, note, "prompt" if seen else "padding"))
            position += seen
        return cells

    def _compared(self, new: list[int], alone: list[int]) -> list[tuple[str, str]]:
        same = [n < len(alone) and token_id == alone[n] for n, token_id in enumerate(new)]
        return [
            (token_text(self.tokenizer, token_id), "new" if equal else "changed")
            for token_id, equal in zip(new, same, strict=True)
        ]
