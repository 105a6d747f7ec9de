"""What was given to `apply_chat_template`, and what it wrote: heard by `watch`, for rules about what is lost there."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, eq=False)
class Conversation:
    """One chat, as its messages and as text."""

    messages: list[Any]
    options: dict[str, Any]  # the keywords that only the template could use, `tools` and `documents` among them
    template: str  # the Jinja source that was used; empty where there is none
    text: str  # as rendered; empty where that raised
