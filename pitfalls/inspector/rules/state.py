"""Rules about the model that is called: its weights and adapters, its mode, its numbers, its device (lesson 8)."""

import math
import sys
from collections.abc import Iterator
from typing import Any

import torch

from pitfalls.inspector.call import Call
from pitfalls.inspector.rule import GENERATE, Said, rule

LESSON = "08_your_own_code"
FLAT = 0.9  # of the entropy of a flat distribution; trained models stay below 0.72, even behind random tokens
TOY = 64  # hidden size up to which a model is there for a test, and nobody waits for its text
LOADED = (
    "from transformers import AutoModelForCausalLM\nmodel = AutoModelForCausalLM.from_pretrained(model.name_or_path"
)


@rule(
    "warning",
    "01_loading",
    mistake="""
    import copy
    model = copy.deepcopy(model).half()
    model.generate(**inputs, max_new_tokens=5)
    """,
    fix="model = model.float()  # or bfloat16: the same size as float16, without its narrow range",
    source="https://github.com/huggingface/transformers/issues/27769",
    explains="Half",
    encoders=True,
)
def half_precision(call: Call) -> str | Said | None:
    """The model runs in float16 on the CPU.

    Older torch raises ("not implemented for 'Half'"); newer torch runs it, mostly slower than float32. Float16 ends at
    65504, and activations that pass it become inf and then NaN. On a CPU take float32, or bfloat16 to save memory.
    """
    dtype, device = getattr(call.model, "dtype", None), getattr(call.model, "device", None)
    if dtype == torch.float16 and getattr(device, "type", None) == "cpu":
        return "The model's weights are float16, on the CPU: slow, and values past 65504 turn into NaN."
    return None


@rule(
    "error",
    LESSON,
    mistake="""
    import copy
    model = copy.deepcopy(model)
    model.model.norm.weight.data[0] = float("nan")  # as float16 that overflowed
    model.generate(**inputs, max_new_tokens=5)
    """,
    fix="model = model.float()  # or load it with dtype=torch.bfloat16",
    source="https://github.com/huggingface/transformers/issues/36822",
    explains="probability tensor contains",
    encoders=True,
)
def nan_logits(call: Call) -> str | Said | None:
    """The model's logits were not numbers (NaN), so what came out means nothing.

    Greedy decoding then takes token 0 for ever, in silence; sampling raises "probability tensor contains either inf,
    nan". Float16 that overflowed is the usual cause; a row that is nothing but padding, or damaged weights, are others.
    """
    if call.nan_rows:
        copies = max(call.get("num_beams") or 1, call.get("num_return_sequences") or 1)
        rows = f"Row {call.nan_rows[0] // copies}'s" if len(call.token_rows) > 1 else "The"
        return f"{rows} logits were NaN: the tokens that came out are meaningless."
    if isinstance(call.error, RuntimeError) and "probability tensor contains" in str(call.error):
        return "There was no number to draw from: the probabilities were inf, NaN or negative."
    return None


@rule(
    "warning",
    LESSON,
    mistake="""
    model.train()
    model.generate(**inputs, max_new_tokens=5)
    """,
    fix="model.eval()",
    source="https://github.com/huggingface/peft/issues/1580",
    encoders=True,
)
def train_mode(call: Call) -> str | Said | None:
    """The model is in training mode.

    Dropout then switches off neurons at random, so that even greedy decoding gives other texts each time, and gradient
    checkpointing switches the cache off. `from_pretrained` returns a model in evaluation mode; a trainer changes it,
    and the layers of a new adapter (`get_peft_model`) begin in training mode, whatever the model around them is in.
    """
    if getattr(call.model, "training", False):
        return "model.training is True: dropout, where the model has it, changes the answer at random."
    if hasattr(call.model, "peft_config"):
        dropouts = [module for module in call.model.modules()
                    if module.training and isinstance(module, torch.nn.Dropout) and module.p]  # fmt: skip
        if dropouts:
            return (
                f"The model is in evaluation mode, its adapter is not: {len(dropouts)} dropout layers "
                f"(p={dropouts[0].p}) change the answer at random."
            )
    return None


@rule(
    "warning",
    LESSON,
    mistake="model.generate(**inputs, max_new_tokens=5, use_cache=False)",
    fix="model.generation_config.use_cache = True\n" + GENERATE,
    source="https://github.com/huggingface/transformers/issues/36051",
    encoders=True,
)
def use_cache(call: Call) -> str | Said | None:
    """The key-value cache is off, so each new token reads the whole text again.

    Generation gets slower with each token: 3.6 times at 100 tokens and 6.2 times at 300 with this course's model. It is
    switched off for training, by a configuration saved then, or by gradient checkpointing in training mode.
    """
    training = getattr(call.model, "training", False)
    if call.get("use_cache") is False or (training and _checkpoints(call.model)):
        return "The key-value cache is off: each new token reads the whole text again, slower and slower."
    return None


@rule(
    "warning",
    LESSON,
    mistake="""
    model.generate(inputs["input_ids"].to("meta"), max_new_tokens=5)  # "meta" stands for any other device
    """,
    fix="inputs = inputs.to(model.device)\n" + GENERATE,
    source="https://github.com/huggingface/transformers/pull/19468",
    explains="device|meta tensor",
    encoders=True,
)
def device(call: Call) -> str | Said | None:
    """The inputs are on another device than the model.

    Transformers 5.23 moves inputs from the CPU to the model in silence, step by step, and warns in the other direction;
    older versions and custom code raise "Expected all tensors to be on the same device".
    """
    ids = call.given_ids
    where = getattr(getattr(call.model, "device", None), "type", None)
    if isinstance(ids, torch.Tensor) and where not in (None, "meta") and ids.device.type != where:
        return f"The ids are on {ids.device.type}, the model is on {where}."
    if isinstance(call.error, RuntimeError) and "to be on the same device" in str(call.error):
        return Said("Tensors of this call are on different devices.", "error")
    return None


@rule(
    "warning",
    LESSON,
    mistake="""
    model = type(model)(model.config)  # as AutoModelForCausalLM.from_config: the architecture, with random weights
    model.eval().generate(**inputs, max_new_tokens=5)
    """,
    fix=LOADED + ")",
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
    config: Any = call.model.config
    config = config.get_text_config(decoder=True) if hasattr(config, "get_text_config") else config
    size, words = getattr(config, "hidden_size", None) or 0, getattr(config, "vocab_size", None) or 0
    if size <= TOY or words < 1000:  # few tokens, as those of proteins, can be nearly flat
        return None
    entropy, most = min(row.steps[0].entropy for row in rows), math.log2(words)
    if entropy < FLAT * most:
        return None
    return (
        f"For the first token nearly all {words} are equally likely ({entropy:.1f} bits of entropy, at most {most:.1f} "
        "are possible): the weights, or those of the output layer, are random."
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
    layers = _adapter_layers(call.model)
    first = next(layers, None)
    if first is None:
        return None
    if first.disable_adapters:
        if any(not layer.disable_adapters for layer in layers):
            return None
        wrapper = _wrapper(call)
        if wrapper is not None:
            on_purpose = wrapper._adapters_disabled  # by `with model.disable_adapter():`
            return None if on_purpose else "All layers of the adapter are switched off: the base model answers."
        if getattr(call.model, "_hf_peft_config_loaded", False):
            text = "The model's adapters are switched off: the base model answers."
            return Said(text, "note", "model.enable_adapters()")
        return None
    if not all(map(_is_zero, (first, *layers))):
        return None
    trains = any(weight.requires_grad for weight in first.lora_B.parameters())
    return Said(
        "All B matrices of the LoRA are zero, so it changes nothing: not trained, or its weights were not loaded.",
        "note" if trains else None,
        "model = model.merge_and_unload()  # the same text without it; or PeftModel.from_pretrained(model, folder)",
    )


@rule(
    "note",
    "11_speed_and_memory",
    mistake="""
    model.hf_device_map = {"model": "cpu", "lm_head": "disk"}  # as device_map="auto" makes it where memory is short
    model.generate(**inputs, max_new_tokens=5)
    """,
    fix=LOADED + ', dtype="auto")  # half the size of float32; still too large: 4 bits',
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
    where = "on the disk" if away == "disk" else "on the CPU, the others on a GPU"
    return f"{count} of the {len(found)} parts of this model lie {where}: each new token waits for them."


@rule(
    "error",
    LESSON,
    mistake="""
    import torch
    model = torch.nn.DataParallel(model)
    model.generate(**inputs, max_new_tokens=5)
    """,
    fix="""
    model = getattr(model, "module", model)  # or accelerator.unwrap_model(model)
    output = model.generate(**inputs, max_new_tokens=50)
    """,
    source="https://github.com/huggingface/trl/issues/340",
    explains="has no attribute 'generate'",
    encoders=True,
)
def no_generate(call: Call) -> str | Said | None:
    """The object has no `generate`: it wraps the model, or is a model without its head.

    `DataParallel` and `DistributedDataParallel` hide all methods of the model but its forward pass; it is their
    `module`. `AutoModel` loads a model without the layer that chooses tokens: take `AutoModelForCausalLM`.
    """
    if not isinstance(call.error, AttributeError):
        return None
    kind, found, _ = str(call.error).partition("' object has no attribute 'generate'")
    kind = kind.lstrip("'")
    if not found:
        return None
    if kind in ("DataParallel", "DistributedDataParallel"):
        return f"{kind} hides the model's generate: call it on model.module."
    if kind.endswith("Model"):
        fix = f"{LOADED})\n{GENERATE}"
        return Said(f"{kind} is a model without the layer that chooses tokens, as AutoModel loads it.", fix=fix)
    return None


def _adapter_layers(model: Any) -> Iterator[Any]:
    """The layers of PEFT in a model, one by one: mostly the first tells enough."""
    if not hasattr(model, "peft_config"):
        return
    kind = getattr(sys.modules.get("peft.tuners.tuners_utils"), "BaseTunerLayer", ())
    yield from (module for module in model.modules() if isinstance(module, kind))


def _is_zero(layer: Any) -> bool:
    """Whether this is a layer of a LoRA that changes nothing; False where that can't be told."""
    active = [layer.lora_B[name].weight for name in layer.active_adapters if name in getattr(layer, "lora_B", {})]
    return bool(active) and not layer.merged and not any(weight.is_meta or weight.any() for weight in active)


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


def _checkpoints(model: Any) -> bool:
    """Whether a model recomputes its activations in training, by the name of the property in this transformers."""
    new = hasattr(type(model), "is_activation_checkpointing")
    return bool(getattr(model, "is_activation_checkpointing" if new else "is_gradient_checkpointing", False))
