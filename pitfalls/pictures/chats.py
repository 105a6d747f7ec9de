"""What a chat template makes of messages: as parts, and as a figure."""

import json
import re
from typing import Any

from matplotlib.patches import Patch
from transformers import PreTrainedTokenizerBase

from pitfalls.language import _, ngettext
from pitfalls.pictures.drawing import STYLES, Picture, canvas, draw_cells, pieces, visible, wrap
from pitfalls.pictures.sources import messages_of


def chat(
    tokenizer: PreTrainedTokenizerBase,
    messages: list[dict[str, str]],
    add_generation_prompt: bool = True,
    title: str | None = None,
) -> Picture:
    """What `apply_chat_template` makes of the messages, coloured by role; what the template adds itself is dashed.

    The call of a tool has the colour of the assistant, where the template writes it as JSON.
    """
    messages = messages_of(tokenizer, messages)
    parts = chat_parts(tokenizer, messages, add_generation_prompt)
    cells = [
        (piece, "", role if role in STYLES else "new")
        for role, part in parts
        for piece in pieces(visible(part).replace("⏎", "⏎\n"))
    ]
    lines = wrap(cells)
    own = sum(len(part) for role, part in parts if role != "special")
    template = sum(len(part) for role, part in parts if role == "special")
    title = title or ngettext(
        "{n} characters are yours, {template} come from the template",
        "{n} characters are yours, {template} come from the template",
        own,
        template=template,
    )
    text = "".join(visible(part) for role, part in parts)
    figure, axis = canvas(0.85 + 0.34 * len(lines), title, _("The text: {text}", text=text), below=0.3)
    draw_cells(axis, lines, height=0.62)
    roles = dict.fromkeys(["special", *(role for role, _ in parts if role in STYLES)])
    handles = [Patch(label=_("template") if role == "special" else role, **STYLES[role]) for role in roles]
    figure.legend(handles=handles, loc="lower left", ncols=len(handles), fontsize=8, frameon=False)
    return figure


def chat_parts(
    tokenizer: PreTrainedTokenizerBase, messages: list[dict[str, str]], add_generation_prompt: bool
) -> list[tuple[str, str]]:
    """The rendered messages as (role or "special", text). A rendering of marks shows where the contents stand."""

    def render(chat: list[dict[str, str]]) -> str:
        return tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=add_generation_prompt)

    text = render(messages)
    marked = render([message | {"content": f"\ue000{n}\ue001"} for n, message in enumerate(messages)])
    before, *rest = re.split("\ue000(\\d+)\ue001", marked)
    parts: list[tuple[str, str]] = []
    position = 0
    for number, after in zip(rest[::2], rest[1::2], strict=True):
        message, start = messages[int(number)], position + len(before)
        stripped = message["content"].strip()
        own = next((own for own in (message["content"], stripped) if text.startswith(own + after, start)), None)
        if own is None:  # a template that treats this content in its own way
            own, start = stripped, text.find(stripped, position)
        if own and start >= 0:
            parts += [("special", text[position:start]), (message["role"], own)]
            position, before = start + len(own), after
        else:
            before = before + after
    calls = [call for message in messages for call in _calls(message)]
    return _with_calls([*parts, ("special", text[position:])], calls)


def _calls(message: dict[str, Any]) -> list[str]:
    """The calls of a message, as templates write them: the function as JSON, in the form of transformers' `tojson`."""
    calls = [call for call in message.get("tool_calls") or [] if isinstance(call, dict)]
    return [json.dumps(call.get("function", call), ensure_ascii=False, default=str) for call in calls]


def _with_calls(parts: list[tuple[str, str]], calls: list[str]) -> list[tuple[str, str]]:
    """The parts, with the calls cut out of the template's."""
    found, waiting = list[tuple[str, str]](), list(calls)
    for role, part in parts:
        while role == "special" and waiting and waiting[0] in part:
            before, _, part = part.partition(waiting[0])
            found += [(role, before), ("assistant", waiting.pop(0))]
        found.append((role, part))
    return found
