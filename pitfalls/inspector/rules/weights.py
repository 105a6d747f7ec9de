"""Rules about the weights of the model that is called: random ones, adapters, and where they lie (lessons 1 and 8)."""

import math
import sys
from collections.abc import Iterator
from itertools import chain
from typing import Any

import torch

from pitfalls.inspector.call import Call
from pitfalls.inspector.rule import Said, rule
from pitfalls.language import _

LESSON = "08_your_own_code"
FLAT = 0.9  # of the entropy of a flat distribution; a trained model stayed below 0.72, even behind random tokens
TOY = 64  # hidden size up to which a model is there for a test, and nobody waits for its text
LOADED = """
from transformers import AutoModelForCausalLM
model = AutoModelForCausalLM.from_pretrained(model.name_or_path)
"""


@rule(
    "warning",
    LESSON,
    mistake="""
    model = type(model)(model.config)  # as AutoModelForCausalLM.from_config: the architecture, with random weights
    model.eval().generate(**inputs, max_new_tokens=5)
    """,
    fix=LOADED,
    source="https://github.com/huggingface/transformers/issues/4685",
    encoders=True,
)
def untrained_weights(call: Call) -> str | Said | None:
    """The model finds nearly every token equally likely, so its weights, or those of its head, are random.

    `from_config` builds a model without its weights; a checkpoint of another class lacks the head, which is then made
    at random (the log of `from_pretrained` names it as newly initialized); a head may have lost its tie to the
    embeddings. Seen by `watch`; models as small as those of tests are left alone.
    """
    rows = [row for row in call.rows[:4] if len(row.steps)]
    if not rows or call.arguments.get("logits_processor"):  # which may have made the scores flat
        return None
    config: Any = getattr(call.model, "config", None)
    config = config.get_text_config(decoder=True) if hasattr(config, "get_text_config") else config
    size, words = getattr(config, "hidden_size", None) or 0, getattr(config, "vocab_size", None) or 0
    if size <= TOY or words < 1000:  # few tokens, as those of proteins, can be nearly flat
        return None
    entropy, most = min(row.steps[0].entropy for row in rows), math.log2(words)
    if entropy < FLAT * most:
        return None
    return _(
        "For the first token nearly all {tokens} are equally likely ({entropy:.1f} bits of entropy, at most {most:.1f} "
        "are possible): the weights, or those of the output layer, are random.",
        tokens=words,
        entropy=entropy,
        most=most,
    )


@rule(
    "warning",
    LESSON,
    mistake="""
    import copy
    from peft import LoraConfig, get_peft_model
    lora = LoraConfig(target_modules=["q_proj", "v_proj"], init_lora_weights=False)
    model = get_peft_model(copy.deepcopy(model), lora).eval()
    model.base_model.disable_adapter_layers()
    model.generate(**inputs, max_new_tokens=5)
    """,
    fix="model.base_model.enable_adapter_layers()",
    source="https://github.com/huggingface/peft/issues/1802",
    encoders=True,
)
def adapter_off(call: Call) -> str | Said | None:
    """The model's adapter does nothing: it is switched off, or its weights are zero.

    The base model answers then, and nothing says so. `with model.disable_adapter():` switches an adapter off for a
    while; `disable_adapter_layers()` does for good. A LoRA whose B matrices are all zero was never trained, or its
    weights were not loaded.
    """
    layers = adapter_layers(call.model)
    first = next(layers, None)
    if first is None:
        return None
    if first.disable_adapters:
        if any(not layer.disable_adapters for layer in layers):
            return None
        wrapper = _wrapper(call)
        if wrapper is not None:
            on_purpose = wrapper._adapters_disabled  # by `with model.disable_adapter():`
            return None if on_purpose else _("All layers of the adapter are switched off: the base model answers.")
        if getattr(call.model, "_hf_peft_config_loaded", False):
            text = _("The model's adapters are switched off: the base model answers.")
            return Said(text, "note", "model.enable_adapters()")
        return None
    zeros: list[torch.Tensor] = []
    for layer in chain([first], layers):  # mostly the first tells enough
        weights = _lora_b(call.model, layer)
        if weights is None or any(weight.is_meta or weight.any() for weight in weights):
            return None
        zeros += weights
    if not zeros:
        name = next(iter(call.model.peft_config))
        return Said(_("No adapter is active: the base model answers."), None, f"model.set_adapter({name!r})")
    return Said(
        _("All B matrices of the LoRA are zero, so it changes nothing: not trained, or its weights were not loaded."),
        "note" if any(weight.requires_grad for weight in zeros) else None,  # about to be trained
        "model = model.merge_and_unload()  # the same text without it; or PeftModel.from_pretrained(model, folder)",
    )


@rule(
    "note",
    "01_loading",
    mistake="""
    model.hf_device_map = {"model": "cpu", "lm_head": "disk"}  # as device_map="auto" makes it where memory is short
    model.generate(**inputs, max_new_tokens=5)
    """,
    fix="""
    from transformers import AutoModelForCausalLM
    model = AutoModelForCausalLM.from_pretrained(model.name_or_path, dtype="auto")  # still too large: 4 bits
    """,
    source="https://github.com/PromtEngineer/localGPT/issues/206",
    encoders=True,
)
def offloaded(call: Call) -> str | Said | None:
    """Part of the model lies on the disk, or on the CPU beside a GPU, and is fetched anew for each token.

    `device_map="auto"` puts what does not fit on the GPU into the memory of the CPU, and the rest on the disk; it says
    so once, while loading. The text is the same, at a small part of the speed. Smaller weights fit: bfloat16, 4 bits.
    """
    places = getattr(call.model, "hf_device_map", None)
    found = [str(place) for place in places.values()] if isinstance(places, dict) else []
    away = "disk" if "disk" in found else "cpu"
    count = found.count(away)
    if not count or (away == "cpu" and count == len(found)):
        return None
    if away == "disk":
        return _(
            "{away} of the {parts} parts of this model lie on the disk: each new token waits for them.",
            away=count,
            parts=len(found),
        )
    return _(
        "{away} of the {parts} parts of this model lie on the CPU, the others on a GPU: each new token waits for them.",
        away=count,
        parts=len(found),
    )


def adapter_layers(model: Any) -> Iterator[Any]:
    """The layers of PEFT in a model, one by one, as looking for them takes a while."""
    if not hasattr(model, "peft_config"):
        return
    kind = getattr(sys.modules.get("peft.tuners.tuners_utils"), "BaseTunerLayer", ())
    yield from (module for module in model.modules() if isinstance(module, kind))


def _lora_b(model: Any, layer: Any) -> list[torch.Tensor] | None:
    """The B matrices of the active adapters in a layer of PEFT; None where something else changes the model too."""
    for name in layer.active_adapters:
        config = model.peft_config[name]
        if getattr(config, "modules_to_save", None) or getattr(config, "bias", "none") != "none":
            return None
    parts = {part: getattr(layer, part, {}) for part in layer.adapter_layer_names}
    acting = {part for part, table in parts.items() for name in layer.active_adapters if name in table}
    if layer.merged or any(not part.startswith("lora_") for part in acting):
        return None
    found = [parts[part][name] for part in acting if part.endswith("_B")
             for name in layer.active_adapters if name in parts[part]]  # fmt: skip
    return [getattr(matrix, "weight", matrix) for matrix in found]


def _wrapper(call: Call) -> Any:
    """The PeftModel whose `generate` made this call: the one that was given, or that of a frame below."""
    if hasattr(call.given_model, "_adapters_disabled"):
        return call.given_model
    frame = sys._getframe(1)
    while frame is not None:
        if str(frame.f_globals.get("__name__")).startswith("peft.") and hasattr(
            owner := frame.f_locals.get("self"), "_adapters_disabled"
        ):
            return owner
        frame = frame.f_back  # type: ignore[assignment]
    return None
