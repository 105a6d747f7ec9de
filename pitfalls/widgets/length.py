"""What a budget keeps of an answer."""

from dataclasses import replace
from typing import Any

from traitlets import Int

from pitfalls import pictures
from pitfalls.inspector.call import Call
from pitfalls.inspector.rows import Row
from pitfalls.language import N_, _, counted, nN_
from pitfalls.pictures.drawing import Picture, short
from pitfalls.widgets.play import Play, module, tokens

WORDS: dict[str, Any] = {
    "used_up": nN_(
        "max_new_tokens={budget}: {n} new tokens, stopped by {reason}.",
        "max_new_tokens={budget}: {n} new tokens, stopped by {reason}.",
    ),
    "unused": nN_(
        "max_new_tokens={budget}: {n} new tokens, {unused} of the budget unused, stopped by {reason}.",
        "max_new_tokens={budget}: {n} new tokens, {unused} of the budget unused, stopped by {reason}.",
    ),
    "prompt": nN_(
        "{n} of {all} tokens in the output ({share}) are the prompt.",
        "{n} of {all} tokens in the output ({share}) are the prompt.",
    ),
    "row": N_("row"),
    "legend": {"prompt": N_("prompt"), "new": N_("new"), "end": N_("end token"), "dropped": N_("not generated")},
}


class Length(Play):
    """A recorded call, and what a smaller `max_new_tokens` would have kept of it.

    `call`: from `pitfalls.record`, with a generous budget such as 100. A row's beginning is the same with any budget,
    as long as tokens are not drawn anew. `row` and `budget` can be given, to begin with.
    """

    _esm = module(__package__, "length")
    row = Int(0).tag(sync=True)
    budget = Int(20).tag(sync=True)

    def __init__(self, call: Call, tokenizer: Any, **controls: int):
        self.call, self.tokenizer = call, tokenizer
        self.most = max(len(call.output_ids[0]), call.settings.max_length or 0) - call.input_ids.shape[1]
        super().__init__(WORDS, **{"budget": min(20, self.most)} | controls)

    def kept(self) -> Row:
        """The row as it would be with the budget of the slider."""
        row = self.call.rows[self.row]
        if self.budget >= len(row.new_ids):
            return row
        ids = row.new_ids[: self.budget]
        text = self.tokenizer.decode(ids, skip_special_tokens=True)
        return replace(row, new_ids=ids, new_text=text, stopped_by="length", steps=row.steps[: self.budget])

    def summary(self) -> str:
        kept = self.kept()
        prompt, new = len(kept.prompt_ids), len(kept.new_ids)
        how = {"budget": self.budget, "reason": kept.stopped_by}
        if self.budget > new:
            ended = counted(WORDS["unused"], new, unused=self.budget - new, **how)
        else:
            ended = counted(WORDS["used_up"], new, **how)
        share = f"{prompt / (prompt + new):.0%}"
        return f"{ended} {counted(WORDS['prompt'], prompt, all=prompt + new, share=share)}"

    def figure(self) -> Picture:
        kept = self.kept()
        title = _(
            "max_new_tokens={budget}: {prompt} prompt tokens + {new} new; stopped by {reason}",
            budget=self.budget,
            prompt=len(kept.prompt_ids),
            new=len(kept.new_ids),
            reason=kept.stopped_by,
        )
        return pictures.token_strip(self.call, self.tokenizer, self.row, title, self.budget)

    def _data(self) -> dict[str, Any]:
        rows = [
            {
                "name": f"{n}: {short(row.prompt_text, 40)}",
                "prompt": tokens(self.tokenizer, row.prompt_ids, "prompt"),
                "new": tokens(self.tokenizer, row.new_ids, "new"),
                "stopped_by": row.stopped_by,
            }
            for n, row in enumerate(self.call.rows)
        ]
        return {"rows": rows, "most": self.most}
