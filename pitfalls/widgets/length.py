"""What a budget keeps of an answer."""

from dataclasses import replace
from typing import Any

import ipywidgets
from matplotlib.figure import Figure

from pitfalls import pictures
from pitfalls.inspector.call import Call
from pitfalls.inspector.rows import Row
from pitfalls.pictures.drawing import short, token_text
from pitfalls.widgets import markup
from pitfalls.widgets.play import Play


class Length(Play):
    """A recorded call, and what a smaller `max_new_tokens` would have kept of it.

    `call`: from `pitfalls.record`, with a generous budget such as 100. A row's beginning is the same with any budget,
    as long as tokens are not drawn anew.
    """

    def __init__(self, call: Call, tokenizer: Any):
        self.call, self.tokenizer = call, tokenizer
        most = max(len(call.output_ids[0]), call.settings.max_length or 0) - call.input_ids.shape[1]
        names = [(f"{n}: {short(row.prompt_text, 40)}", n) for n, row in enumerate(call.rows)]
        self.row = ipywidgets.Dropdown(options=names, value=0, description="row")
        self.budget = ipywidgets.IntSlider(min(20, most), min=1, max=most, description="max_new_tokens")
        super().__init__(self.row, self.budget)

    def kept(self) -> Row:
        """The row as it would be with the budget of the slider."""
        row, budget = self.call.rows[self.row.value], self.budget.value
        if budget >= len(row.new_ids):
            return row
        ids = row.new_ids[:budget]
        text = self.tokenizer.decode(ids, skip_special_tokens=True)
        return replace(row, new_ids=ids, new_text=text, stopped_by="length", steps=row.steps[:budget])

    def summary(self) -> str:
        kept, budget = self.kept(), self.budget.value
        prompt, new = len(kept.prompt_ids), len(kept.new_ids)
        unused = f", {budget - new} of the budget unused" if budget > new else ""
        return (
            f"max_new_tokens={budget}: {new} new tokens{unused}, stopped by {kept.stopped_by}. "
            f"{prompt} of {prompt + new} tokens in the output ({prompt / (prompt + new):.0%}) are the prompt."
        )

    def figure(self) -> Figure:
        kept, budget = self.kept(), self.budget.value
        title = (
            f"max_new_tokens={budget}: {len(kept.prompt_ids)} prompt tokens + {len(kept.new_ids)} new; "
            f"stopped by {kept.stopped_by}"
        )
        return pictures.token_strip(self.call, self.tokenizer, self.row.value, title, budget)

    def _draw(self) -> str:
        row, kept = self.call.rows[self.row.value], self.kept()
        tokens = [self._token(token_id, "prompt") for token_id in row.prompt_ids]
        tokens += [self._token(token_id, "new") for token_id in kept.new_ids]
        if kept.stopped_by == "end-of-sequence":
            tokens[-1] = (tokens[-1][0], "end")
        tokens += [(token_text(self.tokenizer, token_id), "dropped") for token_id in row.new_ids[len(kept.new_ids) :]]
        return markup.boxes(tokens) + markup.legend(["prompt", "new", "end", "dropped"])

    def _token(self, token_id: int, style: str) -> tuple[str, str]:
        special = token_id in self.tokenizer.all_special_ids
        return token_text(self.tokenizer, token_id), "special" if special else style
