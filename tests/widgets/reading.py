"""What the tests of several widgets share."""

import json
import re
from contextlib import contextmanager

TEXTS = ["1, 2, 3", "A, B, C, D, E"]
CAPITAL = [{"role": "user", "content": "What is the capital of France?"}]


def state(page: str) -> dict:
    """What a widget's HTML holds for a page without a kernel."""
    return json.loads(re.search(r'^onPage\("\w+", (.+), render\);$', page, flags=re.MULTILINE)[1])


def asks(widget, message: dict) -> None:
    """What the page sends: as `widget.on_msg` hears it."""
    widget._handle_custom_msg(message, [])


@contextmanager
def counted(model):
    """How often the model is asked to generate."""
    calls = []

    def generate(*args, **kwargs):
        calls.append(kwargs)
        return type(model).generate(model, *args, **kwargs)  # looked up now: `record` listens there

    model.generate = generate
    try:
        yield calls
    finally:
        del model.generate
