"""What the widgets share: controls, a view, a picture of the same state, and errors that are said in the widget."""

import base64
import io
from collections.abc import Callable, Hashable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import ipywidgets
from matplotlib.figure import Figure

from pitfalls.inspector.call import Call
from pitfalls.silence import silenced
from pitfalls.widgets import markup


class Play:
    """What the widgets share: controls, a line that speaks, a view; and a picture for a page without a kernel.

    A widget has `summary()`, one sentence about its state, `figure()`, its state as a picture, and `_draw()` as HTML.
    """

    def __init__(self, *controls: ipywidgets.Widget):
        self.controls = list(_leaves(controls))
        self.answers: dict[Any, Any] = {}
        self.status, self.view = ipywidgets.HTML(), ipywidgets.HTML()
        panel = ipywidgets.Box(controls)
        panel.add_class("pf-controls")
        self.root = ipywidgets.VBox([ipywidgets.HTML(markup.STYLE), panel, self.status, self.view])
        self.root.add_class("pitfalls-play")
        for control in self.controls:
            if not isinstance(control, ipywidgets.Button):
                control.observe(lambda _: self._run(), names="value")
        self._run()

    def summary(self) -> str:
        raise NotImplementedError

    def figure(self) -> Figure:
        raise NotImplementedError

    def _draw(self) -> str:
        raise NotImplementedError

    def _button(self, name: str, action: Callable[[], Any]) -> ipywidgets.Button:
        button = ipywidgets.Button(description=name)
        button.on_click(lambda _: self._run(action))
        return button

    def _run(self, action: Callable[[], Any] = lambda: None) -> None:
        """Act, and draw the state again; what goes wrong is said in the place of the view."""
        try:
            action()
            self.view.value = markup.summary(self.summary()) + self._draw()
            self.status.value = ""
        except Exception as error:  # a callback has no cell that could show it
            self.view.value = ""
            said = str(error) if type(error) is ValueError else f"{type(error).__name__}: {error}"
            self.status.value = markup.problem(said)

    def _ask(self, state: Hashable, compute: Callable[[], Any]) -> Any:
        """What the model says for this state. It works once for each state, and nothing can be clicked meanwhile."""
        if state not in self.answers:
            self.status.value = markup.working()
            with _switched_off(self.controls), silenced():
                self.answers[state] = compute()
        return self.answers[state]

    def _repr_mimebundle_(self, **kwargs: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        hint = "Run this cell to move the controls."
        if not self.view.value:
            return shown_live(self.root, hint), {}
        alt = self.summary()
        data = shown_live(self.root, f"{alt} ({hint})")
        stream = io.BytesIO()
        self.figure().savefig(stream, dpi=100, facecolor="white", metadata={"Software": None})
        data["image/png"] = base64.b64encode(stream.getvalue()).decode()
        return data, {"image/png": {"alt": alt}}


def shown_live(widget: ipywidgets.Widget, text: str) -> dict[str, Any]:
    """The mime data of a widget, and a text for a page without a kernel; ipywidgets 7 has no method for it."""
    view = {"version_major": 2, "version_minor": 0, "model_id": widget.model_id}
    return {"application/vnd.jupyter.widget-view+json": view, "text/plain": text}


def encode(model: Any, tokenizer: Any, text: str, new: int) -> Any:
    """The prompt as inputs on the model's device, where `new` more tokens fit into the window."""
    if not text:
        raise ValueError("The prompt is empty: write something for the model to go on with.")
    inputs = tokenizer(text, return_tensors="pt").to(model.device)
    check_window(model, inputs["input_ids"].shape[1] + new)
    return inputs


def check_window(model: Any, tokens: int) -> None:
    window = Call(model).window
    if window and tokens > window:
        raise ValueError(f"With its answer this makes {tokens:,} tokens; the model's window is {window:,}. Shorten it.")


def _leaves(controls: Iterable[ipywidgets.Widget]) -> Iterator[ipywidgets.Widget]:
    for control in controls:
        if isinstance(control, ipywidgets.Box):
            yield from _leaves(control.children)
        elif not isinstance(control, ipywidgets.Label):
            yield control


@contextmanager
def _switched_off(controls: list[ipywidgets.Widget]) -> Iterator[None]:
    before = [control.disabled for control in controls]
    for control in controls:
        control.disabled = True
    try:
        yield
    finally:
        for control, disabled in zip(controls, before, strict=True):
            control.disabled = disabled
