"""The generation loop, step by step, with other ways to go."""

from dataclasses import replace
from functools import partial
from typing import Any

import ipywidgets
import torch
from matplotlib.figure import Figure

from pitfalls import pictures
from pitfalls.inspector.call import Call
from pitfalls.inspector.recording import record
from pitfalls.inspector.rows import Candidate
from pitfalls.pictures.drawing import percent, token_text, visible
from pitfalls.widgets import markup
from pitfalls.widgets.play import Play, encode

CHOICES = 6  # candidates that are offered


class Loop(Play):
    """A generation step by step, forward and back; another candidate can be taken, to see where it leads."""

    def __init__(self, model: Any, tokenizer: Any, prompt: str, max_new_tokens: int = 20):
        self.model, self.tokenizer, self.new = model, tokenizer, max_new_tokens
        self.path: tuple[str | None, Any] = (None, None)  # the prompt, and the call that goes on from it
        self.prompt = ipywidgets.Text(prompt, description="prompt", continuous_update=False)
        self.prompt.add_class("pf-whole")
        self.step = ipywidgets.IntSlider(1, min=1, max=max_new_tokens, description="step")
        back = self._button("← back", lambda: self._move(-1))
        forward = self._button("forward →", lambda: self._move(1))
        self.choices = [self._button("", partial(self._take, n)) for n in range(CHOICES)]
        choices = ipywidgets.Box([ipywidgets.Label("take"), *self.choices])
        choices.add_class("pf-whole").add_class("pf-choices")
        super().__init__(self.prompt, self.step, back, forward, choices)

    def greedy(self) -> Call:
        """The path that takes the likeliest token at every step."""
        inputs = encode(self.model, self.tokenizer, self.prompt.value, self.new)
        return self._ask(self.prompt.value, lambda: self._generate(inputs, self.new))

    def call(self) -> Call:
        """The path that is shown."""
        if self.path[0] != self.prompt.value:
            self._follow(self.greedy())
        return self.path[1]

    def _generate(self, inputs: Any, new: int) -> Call:
        return record(self.model, self.tokenizer, inputs, max_new_tokens=new, do_sample=False)

    def _follow(self, call: Call) -> None:
        self.path = (self.prompt.value, call)
        self.step.max = len(call.steps)

    def _move(self, by: int) -> None:
        self.step.value = min(max(self.step.value + by, 1), self.step.max)

    def _take(self, n: int) -> None:
        """Leave the path here by the n-th candidate, and go on greedily."""
        call, at = self.call(), self.step.value - 1
        candidate = call.steps[at].candidates[n]
        if candidate.token_id != call.steps[at].chosen.token_id:
            ids = (*call.new_ids[:at], candidate.token_id)
            self._follow(self._ask((self.prompt.value, ids), lambda: self._leave(call, at, candidate)))

    def _leave(self, call: Call, at: int, candidate: Candidate) -> Call:
        ids = [*call.new_ids[:at], candidate.token_id]
        steps = [*call.steps[:at], replace(call.steps[at], chosen=candidate)]
        ends = candidate.token_id in Call(self.model).end_ids
        row = replace(call.rows[0], new_ids=ids, steps=steps, stopped_by="end-of-sequence" if ends else "length")
        if not ends and len(ids) < self.new:
            given = torch.tensor([[*call.prompt_ids, *ids]], device=self.model.device)
            inputs = {"input_ids": given, "attention_mask": torch.ones_like(given)}
            rest = self._generate(inputs, self.new - len(ids))
            row = replace(row, new_ids=ids + rest.new_ids, steps=[*steps, *rest.steps], stopped_by=rest.stopped_by)
        text = self.tokenizer.decode(row.new_ids, skip_special_tokens=True)
        return replace(call, rows=[replace(row, new_text=text)])

    def summary(self) -> str:
        step = self.call().steps[self.step.value - 1]
        best = step.candidates[0]
        instead = "" if best.token_id == step.chosen.token_id else f", and '{visible(best.text)}' was likelier"
        return (
            f"Step {self.step.value} of {self.step.max}: '{visible(step.chosen.text)}' is taken, "
            f"at {percent(step.chosen.probability)}{instead}."
        )

    def figure(self) -> Figure:
        return pictures.loop(self.call(), self.tokenizer, self.step.value - 1)

    def _draw(self) -> str:
        call, at = self.call(), self.step.value - 1
        step = call.steps[at]
        for button, candidate in zip(self.choices, step.candidates, strict=False):
            button.description = visible(candidate.text)
        bars = [
            markup.Bar(candidate.text, candidate.probability, taken=candidate.token_id == step.chosen.token_id)
            for candidate in step.candidates[:CHOICES]
        ]
        if not any(bar.taken for bar in bars):
            bars.append(markup.Bar(step.chosen.text, step.chosen.probability, taken=True))
        styles = ["new"] * at + ["chosen"] + ["later"] * (len(call.new_ids) - at - 1)
        path = self._tokens(call.prompt_ids, ["prompt"] * len(call.prompt_ids)) + self._tokens(call.new_ids, styles)
        greedy = self.greedy()
        left = ""
        if call.new_ids != greedy.new_ids:
            left = markup.line("greedy:", self._tokens(greedy.new_ids, ["later"] * len(greedy.new_ids)))
        return markup.boxes(path) + left + markup.legend(["prompt", "new", "chosen", "later"]) + markup.bars(bars)

    def _tokens(self, ids: list[int], styles: list[str]) -> list[tuple[str, str]]:
        return [(token_text(self.tokenizer, token_id), style) for token_id, style in zip(ids, styles, strict=True)]
