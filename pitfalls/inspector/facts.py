"""The facts about a checkpoint as lines to read."""

import textwrap
from collections.abc import Iterator
from typing import Any

from pitfalls.inspector.stored import printable


def rows(facts: dict[str, Any]) -> list[tuple[str, str]]:
    """A label and a text for each fact; what goes on under the same label has none."""
    return [(label, text) for label, text in _all(facts) if text]


def _all(facts: dict[str, Any]) -> Iterator[tuple[str, str]]:
    built, weights, chat, pad, window = (facts[name] for name in ("architecture", "weights", "chat", "pad", "window"))
    kind = "with an encoder" if built["has_encoder"] else "decoder-only"
    code = {"needed": "; needs code of its own, which was not run", "unused": "; transformers has its code"}
    does = f"{kind}, generates text" if built["generates"] else "does not generate text"
    yield "architecture", f"{built['class'] or built['model_type']}: {does}{code.get(built['own_code'], '')}"
    yield "weights", _about_weights(weights)
    if facts["quantization"]:
        yield "quantization", textwrap.shorten(printable(str(facts["quantization"])), 240, placeholder=" …")
    yield "vocabulary", _about_vocabulary(facts["vocabulary"])
    model = f"{window['config']} tokens" if window["config"] else "not given"
    cut = f"can cut at {window['tokenizer']}" if window["tokenizer"] else "has no limit"
    yield "window", f"{model}; the tokenizer {cut}"
    if facts["vocabulary"]["class"]:
        yield from _about_tokens(facts)
    settings = ", ".join(f"{name}={value!r}" for name, value in facts["settings"].items())
    yield "settings", settings or "none of its own: greedy, and 20 new tokens, unless the call says otherwise"
    yield "", "" if facts["settings_file"] else "there is no generation_config.json: ids come from config.json"


def _about_weights(weights: dict[str, Any]) -> str:
    if not weights["files"]:
        return "none here"
    counts = " + ".join(f"{_amount(count)} {dtype}" for dtype, count in weights["parameters"].items())
    files = f"{weights['files']} .{weights['format']} file{'s' * (weights['files'] > 1)}"
    size = f"{weights['bytes'] / 1e9:.2f} GB" if weights["bytes"] >= 1e9 else f"{weights['bytes'] / 1e6:.1f} MB"
    loaded = f"; loaded as {weights['loaded_as']}" if weights["loaded_as"] else ""
    return f"{counts + ': ' if counts else ''}{size} in {files}{loaded}"


def _amount(count: int) -> str:
    scale, word = next((pair for pair in ((1e9, " billion"), (1e6, " million"), (1, "")) if count >= pair[0]), (1, ""))
    return f"{count / scale:.4g}{word}" if word else str(count)


def _about_vocabulary(facts: dict[str, Any]) -> str:
    if facts["error"]:
        return f"no tokenizer: {facts['error']}"
    rows = f"the model has {facts['config']} rows" if facts["config"] else "the model's is not given"
    return f"{facts['tokenizer']} tokens, the last with id {facts['highest_id']}; {rows}"


def _about_tokens(facts: dict[str, Any]) -> Iterator[tuple[str, str]]:
    chat, bos, pad, ends = (facts[name] for name in ("chat", "bos", "pad", "end_ids"))
    if chat["example"] is not None:
        lines = chat["example"].splitlines(keepends=True)
        shown = [text if len(text) <= 82 else f"{text[:80]} …" for text in map(repr, lines)]
        yield "chat", "\n".join(shown if len(shown) <= 12 else [*shown[:5], "…", *shown[-6:]])
        yield "", f"a user's turn: {chat['user'][0]!r} … {chat['user'][1]!r}"
        yield "", f"an answer: {chat['answer'][0]!r} … {chat['answer'][1]!r}"
        yield "", f"a system text is {chat['system']}"
    else:
        yield "chat", f"the template fails: {chat['error']}" if chat["error"] else "no template"
    if chat.get("thinks"):
        switch = "; enable_thinking=False switches that off" if chat["thinking_switch"] else ""
        yield "", f"an answer can begin with thoughts, in <think> … </think>{switch}"
    places = [(place.replace("chat_", "chat "), ids) for place, ids in ends.items() if place != "names"]
    yield "end ids", " · ".join(f"{place} {ids or 'none'}" for place, ids in places if ids or place[:4] != "chat")
    yield "", ", ".join(f"{token} is {name!r}" for token, name in ends["names"].items())
    if bos["id"] is None:
        yield "BOS", "none"
    else:
        told = {"in_text": "a text has {}", "in_chat": "a chat {}", "in_chat_tokenized_again": "tokenized again {}"}
        counts = [words.format(bos[place]) for place, words in told.items() if bos.get(place) is not None]
        yield "BOS", f"{bos['token']!r} ({bos['id']}): {', '.join(counts)}"
    names = f"{pad['token']!r} ({pad['id']})" if pad["id"] is not None else "none"
    own = "none" if pad["generation_config"] is None else pad["generation_config"]
    yield "pad", f"{names} · generation_config {own} · on the {pad['side']}"
    yield "", "it ends a text too: only the attention mask tells which it is" if pad["ends_too"] else ""
