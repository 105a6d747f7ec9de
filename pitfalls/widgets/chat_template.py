"""A chat with and without its template, its system turn and its generation prompt."""

from collections.abc import Sequence
from itertools import product
from typing import Any

from traitlets import Bool, List, Unicode

from pitfalls import pictures
from pitfalls.inspector.recording import record
from pitfalls.inspector.rows import Step
from pitfalls.language import N_, _
from pitfalls.pictures.chats import chat_parts
from pitfalls.pictures.drawing import STYLES, Picture, percent
from pitfalls.widgets.play import Play, check_window, explained, module, signs

BARS = 5
WORDS: dict[str, Any] = {
    "summary": N_("The model ends its turn at once with {end}; the likeliest next token is '{token}', {share}."),
    "template": N_("chat template"),
    "system": N_("system turn"),
    "prompted": N_("generation prompt"),
    "legend": {"special": N_("by the template"), "new": N_("new")},
    "needs_notebook": N_("Other messages are for the model to answer: for that, run this cell in a notebook."),
}


class ChatTemplate(Play):
    """Messages, what the chat template makes of them, and how likely the model is to end its turn at once.

    The switches can be given, to begin with: `template`, `system` and `prompted`, each True or False.
    """

    _esm = module(__package__, "chat_template")
    system_text = Unicode("You are a friendly chatbot.").tag(sync=True, asks=True)
    turns: Any = List().tag(sync=True, asks=True)  # messages without a system turn
    template = Bool(True).tag(sync=True)
    system = Bool(False).tag(sync=True)
    prompted = Bool(True).tag(sync=True)

    def __init__(self, model: Any, tokenizer: Any, messages: Sequence[dict[str, str]], **switches: bool):
        self.model, self.tokenizer = model, tokenizer
        controls: dict[str, Any] = {"turns": [message for message in messages if message["role"] != "system"]}
        for message in messages:
            if message["role"] == "system":
                controls |= {"system": True, "system_text": message["content"]}
        super().__init__(WORDS, **controls | switches)

    def messages(self) -> list[dict[str, str]]:
        """The turns that the switches leave."""
        return self._messages(self.system)

    def _messages(self, system: bool) -> list[dict[str, str]]:
        return [{"role": "system", "content": self.system_text}, *self.turns] if system else list(self.turns)

    def parts(self) -> list[tuple[str, str]]:
        """The whole prompt as (role or "special", text)."""
        return self._parts(self.template, self.system, self.prompted)

    def _parts(self, template: bool, system: bool, prompted: bool) -> list[tuple[str, str]]:
        turns = self._messages(system)
        if template:
            return chat_parts(self.tokenizer, turns, prompted)
        return [(turn["role"], turn["content"] + ("\n" if turn is not turns[-1] else "")) for turn in turns]

    def step(self) -> Step:
        """The first token of the answer, with its candidates."""
        return self._step(self.template, self.system, self.prompted)

    def _step(self, template: bool, system: bool, prompted: bool) -> Step:
        if empty := [turn["role"] for turn in self._messages(system) if not turn["content"].strip()]:
            raise ValueError(_("The {role} message is empty: write something.", role=empty[0]))
        text = "".join(part for role, part in self._parts(template, system, prompted))
        bare = {"add_special_tokens": False} if template else {}  # the template has written them
        inputs = self.tokenizer(text, return_tensors="pt", **bare).to(self.model.device)
        check_window(self.model, inputs["input_ids"].shape[1] + 1)
        return self._ask(text, lambda: record(self.model, self.tokenizer, inputs, max_new_tokens=1).steps[0])

    def summary(self) -> str:
        step = self.step()
        best = step.candidates[0]
        end, share = percent(step.end_probability), percent(best.probability)
        return _(WORDS["summary"], end=end, token=signs(best.text), share=share)

    def figure(self) -> Picture:
        if not self.template:
            text = "".join(part for role, part in self.parts())
            return pictures.token_strip(self.tokenizer(text)["input_ids"], self.tokenizer, title=self.summary())
        return pictures.chat(self.tokenizer, self.messages(), self.prompted, title=self.summary())

    def _data(self) -> dict[str, Any]:
        """For each state of template, system turn and generation prompt, as "true false true", what is shown of it."""
        self.step()  # what is wrong with the state that is shown is wrong with the widget
        return {" ".join(map(str, state)).lower(): self._state(*state) for state in product((True, False), repeat=3)}

    def _state(self, template: bool, system: bool, prompted: bool) -> dict[str, Any]:
        try:
            step, parts = self._step(template, system, prompted), self._parts(template, system, prompted)
        except Exception as error:  # a template that refuses a system turn, say
            return {"problem": explained(error)}
        return {
            "parts": [(role if role in STYLES else "new", text) for role, text in parts],
            "end": step.end_probability,
            "candidates": [(signs(each.text), each.probability) for each in step.candidates[:BARS]],
        }
