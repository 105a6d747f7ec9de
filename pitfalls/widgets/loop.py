"""The generation loop, step by step, with other ways to go."""

from dataclasses import replace
from functools import partial
from typing import Any

import torch
from traitlets import Int, Unicode

from pitfalls import pictures
from pitfalls.inspector.call import Call
from pitfalls.inspector.recording import record
from pitfalls.inspector.rows import Candidate, Step
from pitfalls.language import N_, _
from pitfalls.pictures.drawing import Picture, percent
from pitfalls.widgets.play import Play, encode, module, signs, tokens

CHOICES = 6  # candidates that are offered
WORDS: dict[str, Any] = {
    "likeliest": N_("Step {step} of {steps}: '{token}' is taken, at {share}."),
    "instead": N_("Step {step} of {steps}: '{token}' is taken, at {share}, and '{best}' was likelier."),
    "prompt": N_("prompt"),
    "step": N_("step"),
    "back": N_("← back"),
    "forward": N_("forward →"),
    "take": N_("take"),
    "greedy": N_("greedy:"),
    "legend": {"prompt": N_("prompt"), "new": N_("new"), "chosen": N_("this step"), "later": N_("where it leads")},
    "needs_notebook": N_(
        "Where another token or another prompt leads is for the model to say: for that, run this cell in a notebook."
    ),
}


class Loop(Play):
    """A generation step by step, forward and back; another candidate can be taken, to see where it leads.

    `step` can be given, to begin with: 1 is the first.
    """

    _esm = module(__package__, "loop")
    prompt = Unicode().tag(sync=True, asks=True)
    step = Int(1).tag(sync=True)

    def __init__(self, model: Any, tokenizer: Any, prompt: str, max_new_tokens: int = 20, **controls: int):
        self.model, self.tokenizer, self.new = model, tokenizer, max_new_tokens
        self.path: tuple[str | None, Any] = (None, None)  # the prompt, and the call that goes on from it
        super().__init__(WORDS, prompt=prompt, **controls)
        self.on_msg(lambda widget, asked, buffers: self._run(partial(self._take, asked["take"])))

    def greedy(self) -> Call:
        """The path that takes the likeliest token at every step."""
        inputs = encode(self.model, self.tokenizer, self.prompt, self.new)
        return self._ask(self.prompt, lambda: self._generate(inputs, self.new))

    def call(self) -> Call:
        """The path that is shown."""
        if self.path[0] != self.prompt:
            self.path = (self.prompt, self.greedy())
        return self.path[1]

    def _generate(self, inputs: Any, new: int) -> Call:
        return record(self.model, self.tokenizer, inputs, max_new_tokens=new, do_sample=False)

    def _take(self, n: int) -> None:
        """Leave the path here by the n-th candidate, and go on greedily."""
        call, at = self.call(), self.step - 1
        candidate = call.steps[at].candidates[n]
        if candidate.token_id != call.steps[at].chosen.token_id:
            ids = (*call.new_ids[:at], candidate.token_id)
            self.path = (self.prompt, self._ask((self.prompt, ids), lambda: self._leave(call, at, candidate)))

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
        step = self.call().steps[self.step - 1]
        best = step.candidates[0]
        return _(
            WORDS["likeliest" if best.token_id == step.chosen.token_id else "instead"],
            step=self.step,
            steps=len(self.call().steps),
            token=signs(step.chosen.text),
            share=percent(step.chosen.probability),
            best=signs(best.text),
        )

    def figure(self) -> Picture:
        return pictures.loop(self.call(), self.tokenizer, self.step - 1)

    def _data(self) -> dict[str, Any]:
        call, greedy = self.call(), self.greedy()
        self.step = min(self.step, len(call.steps))
        left = tokens(self.tokenizer, greedy.new_ids, "later") if greedy.new_ids != call.new_ids else []
        return {
            "prompt": tokens(self.tokenizer, call.prompt_ids, "prompt"),
            "new": tokens(self.tokenizer, call.new_ids, "new"),
            "greedy": left,
            "steps": [_offered(step) for step in call.steps],
        }


def _offered(step: Step) -> dict[str, Any]:
    """The candidates of a step as [text, probability], and the place of the taken one."""
    offered = step.candidates[:CHOICES]
    ids = [candidate.token_id for candidate in offered]
    if step.chosen.token_id not in ids:
        offered, ids = [*offered, step.chosen], [*ids, step.chosen.token_id]
    candidates = [[signs(each.text), each.probability] for each in offered]
    return {"candidates": candidates, "taken": ids.index(step.chosen.token_id)}
