"""A chat with and without its template, its system turn and its generation prompt."""

from collections.abc import Sequence
from typing import Any

import ipywidgets
from matplotlib.figure import Figure

from pitfalls import pictures
from pitfalls.inspector.recording import record
from pitfalls.inspector.rows import Step
from pitfalls.pictures.chats import chat_parts
from pitfalls.pictures.drawing import percent, visible
from pitfalls.widgets import markup
from pitfalls.widgets.play import Play, check_window


class ChatTemplate(Play):
    """Messages, what the chat template makes of them, and how likely the model is to end its turn at once."""

    def __init__(self, model: Any, tokenizer: Any, messages: Sequence[dict[str, str]]):
        self.model, self.tokenizer = model, tokenizer
        system = next((message["content"] for message in messages if message["role"] == "system"), None)
        self.template = ipywidgets.Checkbox(True, description="chat template", indent=False)
        self.system = ipywidgets.Checkbox(system is not None, description="system turn", indent=False)
        self.prompted = ipywidgets.Checkbox(True, description="generation prompt", indent=False)
        self.system_text = self._field("system", system or "You are a friendly chatbot.")
        self.turns = [(m["role"], self._field(m["role"], m["content"])) for m in messages if m["role"] != "system"]
        texts = [self.system_text, *(field for _, field in self.turns)]
        super().__init__(self.template, self.system, self.prompted, *texts)

    def _field(self, role: str, content: str) -> ipywidgets.Textarea:
        field = ipywidgets.Textarea(content, rows=1, description=role, continuous_update=False)
        field.add_class("pf-whole")
        return field

    def messages(self) -> list[dict[str, str]]:
        turns = [{"role": role, "content": field.value} for role, field in self.turns]
        if self.system.value:
            turns = [{"role": "system", "content": self.system_text.value}, *turns]
        return turns

    def parts(self) -> list[tuple[str, str]]:
        """The whole prompt as (role or "special", text)."""
        if self.template.value:
            return chat_parts(self.tokenizer, self.messages(), self.prompted.value)
        turns = self.messages()
        return [(turn["role"], turn["content"] + ("\n" if turn is not turns[-1] else "")) for turn in turns]

    def step(self) -> Step:
        """The first token of the answer, with its candidates."""
        if empty := [turn["role"] for turn in self.messages() if not turn["content"].strip()]:
            raise ValueError(f"The {empty[0]} message is empty: write something.")
        text = "".join(part for _, part in self.parts())
        bare = {"add_special_tokens": False} if self.template.value else {}  # the template has written them
        inputs = self.tokenizer(text, return_tensors="pt", **bare).to(self.model.device)
        check_window(self.model, inputs["input_ids"].shape[1] + 1)
        return self._ask(text, lambda: record(self.model, self.tokenizer, inputs, max_new_tokens=1).steps[0])

    def summary(self) -> str:
        step = self.step()
        likeliest = step.candidates[0]
        return (
            f"The model ends its turn at once with {percent(step.end_probability)}; "
            f"the likeliest next token is '{visible(likeliest.text)}', {percent(likeliest.probability)}."
        )

    def figure(self) -> Figure:
        if not self.template.value:
            text = "".join(part for _, part in self.parts())
            return pictures.token_strip(self.tokenizer(text)["input_ids"], self.tokenizer, title=self.summary())
        return pictures.chat(self.tokenizer, self.messages(), self.prompted.value, title=self.summary())

    def _draw(self) -> str:
        self.system_text.disabled, self.prompted.disabled = not self.system.value, not self.template.value
        bars = [markup.Bar(candidate.text, candidate.probability) for candidate in self.step().candidates[:5]]
        roles = ["special"] if self.template.value else []
        roles += dict.fromkeys(turn["role"] for turn in self.messages())
        return markup.chat(self.parts()) + markup.legend(roles) + markup.bars(bars)
