"""Ids of tokens, asked so that no tokenizer can fail at it.

Where the unknown token is an empty text, as in early uploads of Vicuna, `tokenizer.unk_token_id` recurses for ever in
transformers 5.23, and with it `all_special_ids` and the id of any text that the vocabulary lacks.
"""

from typing import Any


def token_id(tokenizer: Any, token: str | None) -> int | None:
    """The id of a token by its name; None for one that the vocabulary lacks."""
    if not token:
        return None
    backend: Any = getattr(tokenizer, "backend_tokenizer", None)
    if hasattr(backend, "token_to_id"):
        return backend.token_to_id(token)
    try:
        found = tokenizer.convert_tokens_to_ids(token)  # an unknown one gives the id of the unknown token
        return found if tokenizer.convert_ids_to_tokens(found) == token else None
    except RecursionError:
        return None


def role_id(tokenizer: Any, role: str) -> int | None:
    """The id of a special token by its role, such as "bos"; None where there is none."""
    return token_id(tokenizer, getattr(tokenizer, f"{role}_token", None))


def without_bos(tokenizer: Any, text: str) -> str:
    return text.removeprefix(getattr(tokenizer, "bos_token", None) or "")


def special_ids(tokenizer: Any) -> set[int]:
    """The ids of all special tokens: those that decoding with `skip_special_tokens=True` drops."""
    ids = (token_id(tokenizer, token) for token in tokenizer.all_special_tokens)
    added = getattr(tokenizer, "added_tokens_decoder", {})  # some are special without a role
    without_role = {number for number, token in added.items() if getattr(token, "special", False)}
    return {found for found in ids if found is not None} | without_role
