"""Code for a fix: the reader's call once more, with other settings."""

from typing import Any

from transformers import GenerationConfig

from pitfalls.inspector.call import SETTINGS, Call

BEAM_SETTINGS = ("num_beams", "num_beam_groups", "diversity_penalty", "length_penalty", "early_stopping")
PIPELINE = """
from transformers import pipeline
pipe = pipeline("text-generation", model=model, tokenizer=tokenizer)
output = pipe(messages, {settings})
"""


class Code(str):
    """A setting that is written as it stands, without quotes."""

    __repr__ = str.__str__


def again(call: Call, *without: str, **changes: Any) -> str:
    """The same call as code, with these changes and without these settings: what else was asked for stays.

    Settings that are no plain numbers, texts or short lists are left out, and so is what a pipeline filled in.
    """
    settings = {name: value for name, value in _own(call).items() if name not in without} | changes
    if not any(settings.get(name) for name in ("max_new_tokens", "max_length")):
        settings = {"max_new_tokens": 50} | {name: value for name, value in settings.items() if value is not None}
    if settings.get("stop_strings") and call.pipeline_asked is None:
        settings["tokenizer"] = Code("tokenizer")
    written = ", ".join(f"{name}={value!r}" for name, value in settings.items())
    if call.pipeline_asked is not None:
        return PIPELINE.format(settings=written)
    return f"output = model.generate(**inputs, {written})"


def _own(call: Call) -> dict[str, Any]:
    config = call.arguments.get("generation_config")
    named = [*call.arguments, *(config.to_diff_dict() if isinstance(config, GenerationConfig) else ())]
    asked = [name for name in named if call.pipeline_asked is None or name in call.pipeline_asked]
    given = {name: call.given(name) for name in dict.fromkeys(asked) if name in SETTINGS and name[0] != "_"}
    given.pop("transformers_version", None)
    return {name: value for name, value in given.items() if value is not None and _is_short(value)}


def _is_short(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return len(value) <= 8 and all(isinstance(each, (bool, int, float, str)) for each in value)
    return isinstance(value, (bool, int, float)) or (isinstance(value, str) and len(value) <= 40)
