"""A widget as a reader sees it."""

import re
from contextlib import contextmanager
from html import unescape

import ipywidgets

TEXTS = ["1, 2, 3", "A, B, C, D, E"]
CAPITAL = [{"role": "user", "content": "What is the capital of France?"}]


def said(widget) -> str:
    """The text of a widget's view."""
    return unescape(re.sub(r"<[^>]+>", " ", widget.view.value))


def status(widget) -> str:
    return unescape(widget.status.value)


def button(widget, name: str) -> ipywidgets.Button:
    return next(c for c in widget.controls if isinstance(c, ipywidgets.Button) and c.description == name)


def boxes(widget, style: str) -> list[str]:
    """The texts of the boxes of one style, without the legend."""
    html = widget.view.value.split('<div class="pf-legend">')[0]
    return [unescape(text) for text in re.findall(rf'<span class="pf-box pf-{style}">([^<]*)</span>', html)]


@contextmanager
def counted(model):
    """How often the model is asked to generate."""
    calls, original = [], model.generate

    def generate(*args, **kwargs):
        calls.append(kwargs)
        return original(*args, **kwargs)

    model.generate = generate
    try:
        yield calls
    finally:
        del model.generate
