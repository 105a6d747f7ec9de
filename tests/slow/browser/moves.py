"""Every control of each widget, moved as a reader would: what must change in the page, changes.

Each takes a widget in a page. `live` says whether a kernel answers there: without one, what needs the model is locked.
"""

import re
from collections.abc import Callable
from contextlib import contextmanager
from typing import TYPE_CHECKING

from tools.lab import click, field, set_slider, slider, text, toggle, wait_for_change

if TYPE_CHECKING:
    from playwright.sync_api import Locator

# Whether the widget has said that the model is at work, with its controls locked.
WATCH_WORK = """root => {
    window.worked = false;
    new MutationObserver(() => {
        const locked = root.shadowRoot.querySelector('.controls').disabled;
        if (locked && root.shadowRoot.querySelector('.working').textContent) window.worked = true;
    }).observe(root.shadowRoot, {subtree: true, childList: true, attributes: true});
}"""


@contextmanager
def changes(root: "Locator", expected: str):
    """What is done inside the block changes the widget, and then it shows the expected (a pattern of JavaScript)."""
    before = text(root)
    yield
    wait_for_change(root, before, expected)


def percentages(root: "Locator") -> list[float]:
    return [float(number) for number in re.findall(r"([\d.]+)%", " ".join(root.locator(".number").all_inner_texts()))]


def enter(root: "Locator", label: str, words: str):
    field(root, label).fill(words)
    field(root, label).press("Tab")


def asks_the_model(root: "Locator", live: bool, label: str, words: str, complaint: str):
    """An empty text is refused, another one is answered; without a kernel the field says that it needs a notebook."""
    if not live:
        assert field(root, label).get_attribute("readonly") is not None
        assert re.search(r"run this cell in a notebook", root.locator("#note").inner_text())
        return
    with changes(root, complaint):
        enter(root, label, "")
    assert root.get_by_role("alert").is_visible() and not root.locator(".summary").is_visible()
    with changes(root, f"^((?!{complaint}|at work).)+$"):
        enter(root, label, words)
    assert not root.get_by_role("alert").is_visible() and root.locator(".summary").is_visible()


def loop(root: "Locator", live: bool):
    assert re.search(r"Step 2 of 12: '·and' is taken, at \d+\.\d%", text(root))
    with changes(root, "Step 3 of 12"):
        click(root, "forward →")
    with changes(root, "Step 2 of 12"):
        click(root, "← back")
    if live:
        root.evaluate(WATCH_WORK)
        with changes(root, r"greedy:.*Step 2 of 12: '·yellow' is taken, at .*%, and '·and' was likelier|"
                           r"Step 2 of 12: '·yellow' is taken, at .*%, and '·and' was likelier.*greedy:"):  # fmt: skip
            click(root, "·yellow")
        assert root.evaluate("() => window.worked")
        assert root.locator(".chosen").first.inner_text() == "·yellow"
        with changes(root, "Step 1 of 12: ',' is taken"):
            click(root, "← back")
        with changes(root, "Step 4 of 12: '·green' is taken"):
            set_slider(root, "step", 4)
    else:
        assert root.get_by_role("button", name="·yellow", exact=True).is_disabled()
        with changes(root, "Step 12 of 12"):
            slider(root, "step").press("End")
    asks_the_model(root, live, "prompt", "I am a cat.", "The prompt is empty")


def length(root: "Locator", live: bool):
    with changes(root, "max_new_tokens=21: 21 new tokens, stopped by length"):
        slider(root, "max_new_tokens").press("ArrowRight")
    with changes(root, "max_new_tokens=21: 21 new tokens, stopped by end-of-sequence"):
        field(root, "row").select_option(index=1)
    with changes(root, "max_new_tokens=20: 20 new tokens, stopped by length"):
        set_slider(root, "max_new_tokens", 20)
    with changes(root, "max_new_tokens=29: 21 new tokens, 8 of the budget unused, stopped by end-of-sequence"):
        set_slider(root, "max_new_tokens", 29)
    assert root.locator(".end").first.inner_text() == "<|im_end|>"


def next_token(root: "Locator", live: bool):
    with changes(root, "^((?!temperature=).)*49,152 of 49,152 tokens can be drawn"):
        set_slider(root, "temperature", 1)
    own = percentages(root)
    with changes(root, r"temperature=1.05: .*49,152 of 49,152 tokens can be drawn"):
        slider(root, "temperature").press("ArrowRight")
    assert percentages(root)[0] < own[0]
    with changes(root, "49,140 others 9[5-9]"):
        set_slider(root, "temperature", 3)
    with changes(root, "49,140 others [1-4]"):
        set_slider(root, "temperature", 1)
    for label, off, value in [("top-p (1: off)", 1, 0.2), ("min-p (0: off)", 0, 0.5), ("top-k (0: off)", 0, 5)]:
        name = label.split()[0]
        with changes(root, f"cut by {name}.*cut by the filters"):
            set_slider(root, label, value)
        with changes(root, f"^((?!cut by {name}).)*$"):
            set_slider(root, label, off)
    with changes(root, "5 of 49,152 tokens"):
        set_slider(root, "top-k (0: off)", 5)
    assert percentages(root)[:5] == sorted(percentages(root)[:5], reverse=True)
    with changes(root, r"\d+ ×"):
        click(root, "sample 100")
    counts = re.findall(r"(\d+) ×", text(root))
    assert sum(map(int, counts)) == 100 and sum(map(int, counts[5:])) == 0
    with changes(root, "^((?!×).)*$"):  # those draws were from another distribution
        set_slider(root, "top-k (0: off)", 0)
    asks_the_model(root, live, "prompt", "Green, green, green,", "The prompt is empty")
    before = percentages(root)
    with changes(root, r"repetition_penalty=2: '"):
        set_slider(root, "repetition penalty", 2)
    if live:  # its prompt repeats itself
        assert percentages(root)[0] < before[0]


def padding(root: "Locator", live: bool):
    assert re.search("2 of 2 rows as alone", text(root))
    with changes(root, "Padding right, the tokenizer's mask: 1 of 2 rows as alone"):
        toggle(root, "right")
    assert root.locator(".line .changed").count() > 5
    with changes(root, "Padding right, a mask of ones"):
        toggle(root, "all ones")
    assert "mask 0" not in text(root)
    with changes(root, "Padding left, a mask of ones: 1 of 2 rows"):
        toggle(root, "left")
    with changes(root, "2 of 2 rows"):
        toggle(root, "tokenizer's")
    if live:
        root.evaluate(WATCH_WORK)
        with changes(root, "3 of 3 rows"):
            enter(root, "a text a line", "The capital of Japan is\nA, B, C, D, E, F, G\nOnce upon a time")
        assert root.evaluate("() => window.worked")
    asks_the_model(root, live, "a text a line", "1, 2, 3", "There is no text")


def chat_template(root: "Locator", live: bool):
    assert re.search("ends its turn at once with <0.001%", text(root))
    with changes(root, r"likeliest next token is '<\|im_start\|>'"):
        toggle(root, "generation prompt")
    with changes(root, r"ends its turn at once with [5-9]\d\.\d%"):
        toggle(root, "chat template")
    assert field(root, "generation prompt").is_disabled()
    with changes(root, "by the template"):
        toggle(root, "chat template")
    with changes(root, r"likeliest next token is 'The'"):
        toggle(root, "generation prompt")
    with changes(root, "You are a friendly chatbot."):
        toggle(root, "system turn")
    if live:
        with changes(root, "Answer in French."):
            enter(root, "system", "Answer in French.")
        with changes(root, "Why is the sky blue"):
            enter(root, "user", "Why is the sky blue?")
    asks_the_model(root, live, "user", "Hello", "The user message is empty")


def predict(root: "Locator", live: bool):
    """Every choice gets its own answer, and one is right."""
    answers = set()
    for button in root.get_by_role("button").all():
        with changes(root, "^((?!running the code).)*(Right|Not).*$"):
            button.click()
        answers.add(root.locator(".said").inner_text())
        assert button.get_attribute("aria-pressed") == "true"
    assert len(answers) == root.get_by_role("button").count()
    assert sum("Right:" in answer for answer in answers) == 1, answers


MOVES: dict[str, Callable[["Locator", bool], None]] = {
    "03_generating": loop,
    "04_length": length,
    "05_decoding_mode": next_token,
    "06_padding_side": padding,
    "07_prompt_template": chat_template,
}
