"""The facts about a checkpoint as lines to read."""

import textwrap
from collections.abc import Iterator
from typing import Any

from pitfalls.inspector.stored import printable
from pitfalls.language import N_, _, isolated, ngettext

OWN_CODE = {
    "needed": N_("needs code of its own, which was not run"),
    "unused": N_("transformers has its code"),
}
SYSTEM = {
    "refused": N_("a system text is refused"),
    "written": N_("a system text is written"),
    "dropped": N_("a system text is dropped"),
}


def rows(facts: dict[str, Any]) -> list[tuple[str, str]]:
    """A label and a text for each fact; what goes on under the same label has none."""
    return [(label, text) for label, text in _all(facts) if text]


def _all(facts: dict[str, Any]) -> Iterator[tuple[str, str]]:
    yield _("architecture"), _about_architecture(facts["architecture"])
    yield _("weights"), _about_weights(facts["weights"])
    if facts["quantization"]:
        said = textwrap.shorten(printable(str(facts["quantization"])), 240, placeholder=" …")
        yield _("quantization"), isolated(said)
    yield _("vocabulary"), _about_vocabulary(facts["vocabulary"])
    yield _("window"), _about_window(facts["window"])
    if facts["vocabulary"]["class"]:
        yield from _about_chat(facts["chat"])
        yield from _about_tokens(facts)
    settings = isolated(", ".join(f"{name}={value!r}" for name, value in facts["settings"].items()))
    yield _("settings"), settings or _("none of its own: greedy, and 20 new tokens, unless the call says otherwise")
    if not facts["settings_file"]:
        yield "", _("there is no generation_config.json: ids come from config.json")


def _both(fact: str, more: str) -> str:
    return _("{fact}; {more}", fact=fact, more=more)


def _about_architecture(built: dict[str, Any]) -> str:
    name = built["class"] or built["model_type"]
    if not built["generates"]:
        told = _("{architecture}: does not generate text", architecture=name)
    elif built["has_encoder"]:
        told = _("{architecture}: with an encoder, generates text", architecture=name)
    else:
        told = _("{architecture}: decoder-only, generates text", architecture=name)
    return _both(told, _(OWN_CODE[built["own_code"]])) if built["own_code"] else told


def _about_weights(weights: dict[str, Any]) -> str:
    if not weights["files"]:
        return _("none here")
    counts = " + ".join(_amount(count, dtype) for dtype, count in weights["parameters"].items())
    size = weights["bytes"]
    told = ngettext(
        "{size} in {n} {format} file",
        "{size} in {n} {format} files",
        weights["files"],
        size=_("{size:.2f} GB", size=size / 1e9) if size >= 1e9 else _("{size:.1f} MB", size=size / 1e6),
        format=f".{weights['format']}",
    )
    told = _("{weights}: {files}", weights=counts, files=told) if counts else told
    return _both(told, _("loaded as {dtype}", dtype=weights["loaded_as"])) if weights["loaded_as"] else told


def _amount(count: int, dtype: str) -> str:
    if count >= 1e9:
        return _("{count:.4g} billion {dtype}", count=count / 1e9, dtype=dtype)
    if count >= 1e6:
        return _("{count:.4g} million {dtype}", count=count / 1e6, dtype=dtype)
    return f"{count} {dtype}"


def _about_vocabulary(facts: dict[str, Any]) -> str:
    if facts["error"]:
        return _("no tokenizer: {error}", error=_(facts["error"]))
    told = _("{tokens} tokens, the last with id {id}", tokens=facts["tokenizer"], id=facts["highest_id"])
    rows = facts["config"]
    return _both(told, _("the model has {rows} rows", rows=rows) if rows else _("the model's is not given"))


def _about_window(window: dict[str, Any]) -> str:
    told = _("{tokens} tokens", tokens=window["config"]) if window["config"] else _("not given")
    limit = window["tokenizer"]
    return _both(
        told, _("the tokenizer can cut at {tokens}", tokens=limit) if limit else _("the tokenizer has no limit")
    )


def _about_chat(chat: dict[str, Any]) -> Iterator[tuple[str, str]]:
    if chat["example"] is not None:
        lines = chat["example"].splitlines(keepends=True)
        shown = [isolated(text if len(text) <= 82 else f"{text[:80]} …") for text in map(repr, lines)]
        yield _("chat"), "\n".join(shown if len(shown) <= 12 else [*shown[:5], "…", *shown[-6:]])
        before, after = chat["user"]
        yield "", _("a user's turn: {before!r} … {after!r}", before=before, after=after)
        before, after = chat["answer"]
        yield "", _("an answer: {before!r} … {after!r}", before=before, after=after)
        yield "", _(SYSTEM[chat["system"]])
    else:
        yield _("chat"), _("the template fails: {error}", error=chat["error"]) if chat["error"] else _("no template")
    if chat.get("thinks"):
        told = _("an answer can begin with thoughts, in <think> … </think>")
        yield "", _both(told, _("enable_thinking=False switches that off")) if chat["thinking_switch"] else told


def _about_tokens(facts: dict[str, Any]) -> Iterator[tuple[str, str]]:
    ends = dict(facts["end_ids"])
    names = ends.pop("names")
    told = [
        _("{place} {ids}", place=_("chat template") if place == "chat_template" else place, ids=ids or _("none"))
        for place, ids in ends.items()
        if ids or place != "chat_template"
    ]
    yield _("end ids"), " · ".join(told)
    yield "", ", ".join(_("{token} is {name!r}", token=token, name=name) for token, name in names.items())
    yield _("BOS"), _about_bos(facts["bos"])
    yield _("pad"), _about_pad(facts["pad"])
    if facts["pad"]["ends_too"]:
        yield "", _("it ends a text too: only the attention mask tells which it is")


def _about_bos(bos: dict[str, Any]) -> str:
    if bos["id"] is None:
        return _("none")
    told = {"token": bos["token"], "id": bos["id"], "text": bos["in_text"]}
    if bos["in_chat"] is None:
        return _("{token!r} ({id}): a text has {text}", **told)
    return _(
        "{token!r} ({id}): a text has {text}, a chat {chat}, tokenized again {again}",
        chat=bos["in_chat"],
        again=bos["in_chat_tokenized_again"],
        **told,
    )


def _about_pad(pad: dict[str, Any]) -> str:
    told = {
        "pad": f"{pad['token']!r} ({pad['id']})" if pad["id"] is not None else _("none"),
        "own": _("none") if pad["generation_config"] is None else pad["generation_config"],
    }
    if pad["side"] == "left":
        return _("{pad} · generation_config {own} · on the left", **told)
    return _("{pad} · generation_config {own} · on the right", **told)
