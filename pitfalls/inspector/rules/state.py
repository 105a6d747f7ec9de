"""Rules about the model that is called: its mode, its numbers, its device (lessons 1, 8 and 11)."""

import re
from typing import Any

import torch
import transformers

from pitfalls.inspector.call import Call
from pitfalls.inspector.rule import GENERATE, Said, rule
from pitfalls.inspector.rules.weights import LOADED, adapter_layers
from pitfalls.language import _

LESSON = "08_your_own_code"


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
        return _("The model's weights are float16, on the CPU: slow, and values past 65504 turn into NaN.")
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
        row = call.nan_rows[0] // copies
        if len(call.token_rows) > 1:
            return _("Row {row}'s logits were NaN: the tokens that came out are meaningless.", row=row)
        return _("The logits were NaN: the tokens that came out are meaningless.")
    if isinstance(call.error, RuntimeError) and "probability tensor contains" in str(call.error):
        return _("There was no number to draw from: the probabilities were inf, NaN or negative.")
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
        return _("model.training is True: dropout, where the model has it, changes the answer at random.")
    for layer in adapter_layers(call.model):
        tables = [table for table in layer.children() if isinstance(table, torch.nn.ModuleDict)]
        acting = [table[name] for table in tables for name in layer.active_adapters if name in table]
        for part in acting if not (layer.disable_adapters or layer.merged) else ():
            if isinstance(part, torch.nn.Dropout) and part.training and part.p:
                setting = f"p={part.p}"
                return _(
                    "The adapter is in training mode: its dropout ({setting}) changes the answer at random.",
                    setting=setting,
                )
        if acting:  # all layers of an adapter are in one mode
            break
    return None


@rule(
    "warning",
    "11_speed_and_memory",
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
        return _("The key-value cache is off: each new token reads the whole text again, slower and slower.")
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
        return _("The ids are on {ids}, the model is on {model}.", ids=ids.device.type, model=where)
    if isinstance(call.error, RuntimeError) and "to be on the same device" in str(call.error):
        return Said(_("Tensors of this call are on different devices."), "error")
    offloaded = getattr(call.model, "hf_device_map", None)
    if isinstance(call.error, RuntimeError) and where == "meta" and "meta" in str(call.error) and not offloaded:
        text = _("The model's weights are on the device meta, which holds no numbers: they were not loaded.")
        return Said(text, "error", f"{LOADED}{GENERATE}")
    return None


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
    kind, found, _rest = str(call.error).partition("' object has no attribute 'generate'")
    kind = kind.lstrip("'")
    if not found:
        return None
    if kind in ("DataParallel", "DistributedDataParallel"):
        return _("{wrapper} hides the model's generate: call it on model.module.", wrapper=kind)
    if re.search("(?<!Encoder)Model$|Classification$|QuestionAnswering$", kind) and hasattr(transformers, kind):
        text = _(
            "{model} is a model without the layer that chooses tokens: AutoModelForCausalLM loads it with one.",
            model=kind,
        )
        return Said(text, fix=f"{LOADED}{GENERATE}")
    return None


def _checkpoints(model: Any) -> bool:
    """Whether a model recomputes its activations in training, by the name of the property in this transformers."""
    new = hasattr(type(model), "is_activation_checkpointing")
    return bool(getattr(model, "is_activation_checkpointing" if new else "is_gradient_checkpointing", False))
