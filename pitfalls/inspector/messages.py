"""Code that mends the messages of a chat, for the fixes of rules: in it `messages` and `tokenizer` are the reader's."""

import inspect
from typing import Any

from pitfalls.inspector.rule import TEMPLATE

ROLES = {  # names in data sets, and what chat templates call them
    "human": "user", "Human": "user", "User": "user", "USER": "user", "prompter": "user",
    "gpt": "assistant", "chatgpt": "assistant", "bot": "assistant", "chatbot": "assistant", "ai": "assistant",
    "AI": "assistant", "model": "assistant", "Assistant": "assistant", "ASSISTANT": "assistant",
    "System": "system", "SYSTEM": "system",
}  # fmt: skip
SHARED = {"human": "user", "gpt": "assistant"}  # those that most data sets have


def appended(code: str) -> str:
    """The code, and then the call with the mended messages."""
    return inspect.cleandoc(code) + TEMPLATE


def system_into_user() -> str:
    return inspect.cleandoc(r"""
    system = "\n".join(message["content"] for message in messages if message["role"] == "system")
    messages = [message for message in messages if message["role"] != "system"]
    messages[0] = {**messages[0], "content": f"{system}\n\n{messages[0]['content']}".strip()}
    """)


def joined_turns() -> str:
    return inspect.cleandoc(r"""
    turns = []
    for message in messages:
        if turns and turns[-1]["role"] == message["role"]:
            message = {**message, "content": turns.pop()["content"] + "\n\n" + message["content"]}
        if turns or message["role"] != "assistant":  # a chat begins with a question
            turns.append(message)
    messages = turns
    """)


def renamed_roles(names: dict[str, str]) -> str:
    return inspect.cleandoc(f"""
    names = {names}  # what the template calls them
    messages = [{{**message, "role": names.get(message["role"], message["role"])}} for message in messages]
    """)


def renamed_keys(message: dict[str, Any]) -> str:
    """For messages such as this one, which lacks `role` or `content`."""
    texts = [key for key, value in message.items() if isinstance(value, str)]
    role = next((key for key in ("role", "from", "speaker", "author", "name") if key in texts), "")
    content = next((key for key in ("content", "value", "text", *texts) if key in texts and key != role), "")
    who = f'names.get(message["{role}"], message["{role}"])' if role else '"user"'
    what = f'message["{content}"]' if content else '""'
    names = f"names = {SHARED}\n" if role else ""
    return f'{names}messages = [{{"role": {who}, "content": {what}}} for message in messages]'


def contents_as_text() -> str:
    return inspect.cleandoc("""
    def as_text(content):
        parts = content if isinstance(content, list) else [content]
        return "".join(part if isinstance(part, str) else (part or {}).get("text", "") for part in parts)

    messages = [{**message, "content": as_text(message.get("content"))} for message in messages]
    """)
