"""`inspect_model`: what a checkpoint will do to its users, read from its small files before anyone calls it.

seen = pitfalls.inspect_model("owner/name")     # or a folder; `python -m pitfalls model owner/name` prints it
seen.facts["end_ids"]   # {"tokenizer": [2], "config": [2], "generation_config": [2], "chat_template": [2]}
seen.report             # its oddities, each with a fix
"""

import html
import json
import os
import textwrap
import warnings
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from transformers.models.auto import modeling_auto
from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

from pitfalls.inspector.chat_format import ChatFormat, chat_format
from pitfalls.inspector.facts import rows
from pitfalls.inspector.given import token_ids
from pitfalls.inspector.oddities import Parts, find_oddities
from pitfalls.inspector.report import Report
from pitfalls.inspector.stored import (
    load_config,
    load_settings,
    load_tokenizer,
    printable,
    read_json,
    short,
    weights_in,
    weights_listed,
)
from pitfalls.inspector.vocabulary import role_id
from pitfalls.language import directed, html_language
from pitfalls.model.choose import read_config, without_weights
from pitfalls.silence import silenced

WINDOWS = ("max_position_embeddings", "n_positions", "max_seq_len", "seq_length")
NO_LIMIT = 10**9  # tokenizers without a limit have 10**30
NEUTRAL = {  # settings that older versions wrote down, and that change nothing
    "do_sample": False, "temperature": 1, "top_k": 50, "top_p": 1, "min_p": 0, "typical_p": 1, "num_beams": 1,
    "repetition_penalty": 1, "length_penalty": 1, "max_length": 20, "min_length": 0, "no_repeat_ngram_size": 0,
    "num_return_sequences": 1, "use_cache": True,
}  # fmt: skip
GENERATING = ("CAUSAL_LM", "SEQ_TO_SEQ_CAUSAL_LM", "IMAGE_TEXT_TO_TEXT", "SPEECH_SEQ_2_SEQ", "MULTIMODAL_LM")
SYSTEM, QUESTION = "Be brief.", "Hello!"


@dataclass(frozen=True, repr=False)
class Checkpoint:
    """A checkpoint's facts, as a dict that JSON can hold, and a report on its oddities."""

    name: str
    facts: dict[str, Any]
    report: Report

    def as_dict(self) -> dict[str, Any]:
        return {"name": self.name, "facts": self.facts, "findings": self.report.as_dicts()}

    def __str__(self) -> str:
        return self._text(str(self.report))

    def __repr__(self) -> str:
        return self._text(repr(self.report))

    def _text(self, report: str) -> str:
        lines, told = [], rows(self.facts)
        width = max(len(label) for label, _text in told) + 2
        for label, text in told:
            wrapped = [line for part in text.split("\n") for line in textwrap.wrap(part, 84)]
            lines += [f"  {label if n == 0 else '':{width}}{line}" for n, line in enumerate(wrapped)]
        return "\n".join([self.name, directed("\n".join(lines)), "", report])

    def _repr_html_(self) -> str:
        style = 'style="text-align: start; vertical-align: top; padding: 2px 10px; white-space: pre-wrap"'
        lines = "".join(
            f"<tr><th {style}>{html.escape(label)}</th><td {style}>{html.escape(text)}</td></tr>"
            for label, text in rows(self.facts)
        )
        return f"<b>{html.escape(self.name)}</b><table{html_language()}>{lines}</table>{self.report._repr_html_()}"


def inspect_model(name_or_folder: str | os.PathLike[str]) -> Checkpoint:
    """What the checkpoint in a folder, or of this name on the Hub, will do to those who call it.

    Reads configuration and tokenizer, and of the weights no more than the headers of their files. Nothing is loaded,
    and code that comes with a checkpoint is never run. A folder needs no network.

    Raises `ModelError`, with what to do, where there is no checkpoint to look at.
    """
    folder, sizes, counts = without_weights(name_or_folder)
    with silenced(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        raw = read_config(folder)
        config = load_config(folder, raw)
        tokenizer, why = load_tokenizer(folder)
        chat = ChatFormat()
        with suppress(Exception):  # a damaged tokenizer
            chat = chat_format(tokenizer) if tokenizer is not None else chat
        parts = Parts(str(name_or_folder), config, load_settings(folder, config), tokenizer, chat, {})
        parts.facts.update(
            architecture=_architecture(raw, config),
            weights=weights_listed(sizes, counts) if sizes else weights_in(folder),
            quantization=raw.get("quantization_config"),
            chat=_chat(parts),
            settings_file=(folder / "generation_config.json").is_file(),
            end_ids=_end_ids(parts),
            bos={"asked": bool(read_json(folder / "tokenizer_config.json").get("add_bos_token"))},
            pad=_pad(parts),
            window=_window(parts),
            settings=_settings(parts),
            vocabulary=_vocabulary(parts, why),
        )
        parts.facts["weights"]["loaded_as"] = _loaded_as(config, parts.facts["weights"]["parameters"])
        parts.facts["bos"].update(_bos(parts))
        report = Report(find_oddities(parts))
    return Checkpoint(parts.name, json.loads(json.dumps(parts.facts, default=str)), report)


# --- the facts ---------------------------------------------------------------------------------------------------


def _architecture(raw: dict[str, Any], config: Any) -> dict[str, Any]:
    mappings = [getattr(modeling_auto, f"MODEL_FOR_{task}_MAPPING_NAMES", {}) for task in GENERATING]
    kind, names = printable(str(raw.get("model_type"))), raw.get("architectures")
    name = printable(str(names[0])) if isinstance(names, list) and names else None
    classes = {each for mapping in mappings for entry in mapping.values()
               for each in ([entry] if isinstance(entry, str) else entry)}  # fmt: skip
    generates = any(kind in mapping for mapping in mappings)
    if name:
        generates = name in classes or name.endswith(("ForCausalLM", "LMHeadModel", "ForConditionalGeneration"))
    code = bool(raw.get("auto_map"))
    known = kind in CONFIG_MAPPING_NAMES
    return {
        "class": name,
        "model_type": kind,
        "generates": generates,
        "has_encoder": bool(getattr(config, "is_encoder_decoder", False)),
        "own_code": ("unused" if known else "needed") if code else None,
    }


def _loaded_as(config: Any, counts: dict[str, int]) -> str | None:
    """The dtype that `from_pretrained` takes where it is not told one."""
    dtype = getattr(config, "dtype", None) or max(counts, key=lambda name: counts[name], default=None)
    return str(dtype).removeprefix("torch.") if dtype else None


def _chat(parts: Parts) -> dict[str, Any]:
    chat = parts.chat
    template = getattr(parts.tokenizer, "chat_template", None)
    facts: dict[str, Any] = {"template": bool(template), "example": None, "error": None, "system": None}
    if not template:
        return facts
    question = {"role": "user", "content": QUESTION}
    facts["example"], facts["error"] = _render(parts.tokenizer, [question])
    if facts["example"] is not None:
        text, _ = _render(parts.tokenizer, [{"role": "system", "content": SYSTEM}, question])
        facts["system"] = "refused" if text is None else "written" if SYSTEM in text else "dropped"
    return facts | {
        "user": [chat.user_open, chat.user_close],
        "answer": [chat.header, chat.answer_close],
        "header_by_request": bool(chat.header) and not chat.ignores_header,
        "thinks": "<think>" in str(template),
        "thinking_switch": "enable_thinking" in str(template),
    }


def _render(tokenizer: Any, messages: list[dict[str, str]]) -> tuple[str | None, str | None]:
    try:
        return tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True), None
    except Exception as error:  # whatever Jinja or the template raises
        return None, short(error)


def _end_ids(parts: Parts) -> dict[str, Any]:
    places = {
        "tokenizer": token_ids(role_id(parts.tokenizer, "eos")),
        "config": token_ids(getattr(parts.config, "eos_token_id", None)),
        "generation_config": token_ids(parts.settings.eos_token_id),
        "chat_template": token_ids(parts.chat.end_id),
    }
    names = {str(token): parts.token(token) for ids in places.values() for token in ids}
    return places | {"names": names}


def _bos(parts: Parts) -> dict[str, Any]:
    bos, example = role_id(parts.tokenizer, "bos"), parts.facts["chat"]["example"]
    facts = {"token": getattr(parts.tokenizer, "bos_token", None), "id": bos, "in_text": None, "in_chat": None}
    if bos is None:
        return facts
    facts["in_text"] = _leading(bos, parts.ids("Hello"))
    if example is not None:
        facts["in_chat"] = _leading(bos, parts.ids(example, add_special_tokens=False))
        facts["in_chat_tokenized_again"] = _leading(bos, parts.ids(example))
    return facts


def _leading(token: int, ids: list[int]) -> int:
    """How often the ids begin with this one."""
    return next((n for n, each in enumerate(ids) if each != token), len(ids))


def _pad(parts: Parts) -> dict[str, Any]:
    pad = role_id(parts.tokenizer, "pad")
    return {
        "token": getattr(parts.tokenizer, "pad_token", None),
        "id": pad,
        "generation_config": parts.settings.pad_token_id,
        "ends_too": pad is not None and pad in token_ids(parts.settings.eos_token_id),
        "side": getattr(parts.tokenizer, "padding_side", None),
    }


def _window(parts: Parts) -> dict[str, Any]:
    given = [getattr(parts.text_config, name, None) for name in WINDOWS]
    limit = getattr(parts.tokenizer, "model_max_length", None)
    return {
        "config": next((size for size in given if isinstance(size, int) and size > 0), None),
        "tokenizer": limit if isinstance(limit, int) and limit < NO_LIMIT else None,
    }


def _settings(parts: Parts) -> dict[str, Any]:
    """What the checkpoint sets by itself, without special ids and without what changes nothing."""
    ids = ("bos_token_id", "eos_token_id", "pad_token_id", "decoder_start_token_id")
    idle = ("transformers_version", "_", "output_", "return_dict")
    return {
        name: value
        for name, value in parts.settings.to_diff_dict().items()
        if name not in ids and not name.startswith(idle) and value is not None and value != NEUTRAL.get(name, False)
    }


def _vocabulary(parts: Parts, why: str | None) -> dict[str, Any]:
    known = parts.tokenizer.get_vocab().values() if parts.tokenizer is not None else ()
    return {
        "class": type(parts.tokenizer).__name__ if parts.tokenizer is not None else None,
        "error": why,
        "tokenizer": len(known) or None,
        "highest_id": max(known, default=None),
        "config": getattr(parts.text_config, "vocab_size", None),
    }
