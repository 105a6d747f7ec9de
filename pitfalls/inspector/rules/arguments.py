"""Rules about the arguments of the call, and of loading the model (lesson 8)."""

import difflib
import functools
import inspect
import re
from collections.abc import Mapping
from typing import Any

import torch
from transformers import GenerationConfig, TextStreamer
from transformers.generation import GenerationMixin

from pitfalls.inspector.call import ID_TYPES, Call
from pitfalls.inspector.rule import GENERATE, Said, rule

LESSON = "08_your_own_code"
TOKENIZED = f'inputs = tokenizer(texts[0], return_tensors="pt")\n{GENERATE}'
OTHER_NAMES = {  # of other interfaces, and what it is called here
    "max_tokens": "max_new_tokens",
    "max_completion_tokens": "max_new_tokens",
    "max_gen_len": "max_new_tokens",
    "n": "num_return_sequences",
    "best_of": "num_beams",
    "stop": "stop_strings",
    "stop_sequences": "stop_strings",
    "frequency_penalty": "repetition_penalty",
    "presence_penalty": "repetition_penalty",
    "temp": "temperature",
    "beam_size": "num_beams",
    "stream": "streamer",
    "seed": "transformers.set_seed",
}


@rule(
    "error",
    LESSON,
    mistake="model.generate(inputs, max_new_tokens=5)",
    fix=GENERATE,
    source="https://github.com/algorithmicsuperintelligence/optillm/pull/320",
    explains="^(AttributeError|TypeError|ValueError|IndexError): |argument #1 'indices'|Sizes of tensors must match",
    encoders=True,
)
def positional_inputs(call: Call) -> str | Said | None:
    """`generate` or the model got something else than a tensor of token ids as its input.

    Since transformers 5, `apply_chat_template(…, return_tensors="pt")` returns a BatchEncoding, as the tokenizer does.
    As one argument it ends in an AttributeError without a message. Two stars hand over its ids and its mask by name.
    """
    given = call.given_ids
    if isinstance(given, Mapping) or _asked_a_batch_encoding(call.error):
        name = type(given).__name__ if isinstance(given, Mapping) else "BatchEncoding"
        return f'A {name} stands where a tensor of ids belongs: write `**inputs`, or `inputs["input_ids"]`.'
    if isinstance(given, str) or (isinstance(given, (list, tuple)) and given and isinstance(given[0], str)):
        return "The input is text, and generate takes token ids: tokenize it first."
    if given is not None and not isinstance(given, torch.Tensor):
        return f'The input is a {type(given).__name__} and must be a tensor: give the tokenizer return_tensors="pt".'
    ids = "input_ids" in call.arguments or getattr(call.model, "main_input_name", "") == "input_ids"  # sound has others
    if isinstance(given, torch.Tensor) and given.ndim != 2 and (ids or given.ndim == 1):
        shape = tuple(given.shape)
        return f'The ids have shape {shape}, not (rows, tokens): give the tokenizer return_tensors="pt".'
    if isinstance(given, torch.Tensor) and given.numel() and ids and given.dtype not in ID_TYPES:
        kind = str(given.dtype).removeprefix("torch.")
        return Said(f"The ids are of type {kind}, and token ids are whole numbers: it raises.", fix=TOKENIZED)
    return None


@rule(
    "error",
    LESSON,
    mistake="model.generate(**inputs, max_tokens=5)",
    fix=GENERATE,
    source="https://github.com/EleutherAI/pythia/issues/36",
    explains="model_kwargs|unexpected keyword|'dict' object|token_type_ids",
    encoders=True,
)
def unknown_argument(call: Call) -> str | Said | None:
    """`generate` does not take one of the arguments.

    It checks its keywords against the model's forward method and the GenerationConfig, and raises a ValueError for any
    other: names of other libraries, misspelt ones, and keys that a tokenizer returns and this model has no use for.
    """
    if call.model is None or not hasattr(call.model, "prepare_inputs_for_generation"):
        return None
    if isinstance(call.arguments.get("generation_config"), Mapping):
        return "generation_config is a dictionary: write GenerationConfig(**settings), or give the settings by name."
    kind: Any = type(call.model)
    known = _known_arguments(kind)
    unknown = [name for name, value in call.arguments.items() if value is not None and name not in known]
    for name in unknown:
        if name == "token_type_ids":
            return "This model takes no token_type_ids: give the tokenizer return_token_type_ids=False."
        near = OTHER_NAMES.get(name) or next(
            iter(difflib.get_close_matches(str(name), sorted(known), n=1, cutoff=0.7)), None
        )
        return f"generate takes no {name!r}" + (f"; here it is {near!r}." if near else ".")
    return None


@rule(
    "error",
    "01_loading",
    mistake="""
    from transformers import AutoModelForCausalLM
    AutoModelForCausalLM.from_pretrained(model.name_or_path, load_in_4bit=True)
    """,
    fix="""
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig
    model = AutoModelForCausalLM.from_pretrained(
        model.name_or_path, device_map="auto", quantization_config=BitsAndBytesConfig(load_in_4bit=True)
    )
    """,
    source="https://github.com/hiyouga/LlamaFactory/issues/4157",
    explains="load_in_[48]bit",
    encoders=True,
)
def removed_keyword(call: Call) -> str | Said | None:
    """`load_in_4bit` and `load_in_8bit` are no longer arguments of `from_pretrained`.

    Transformers 5 takes them only inside a BitsAndBytesConfig. Given bare they end in a TypeError of the model's
    constructor, or in a ValueError where a quantization_config is given too.
    """
    if isinstance(call.error, (TypeError, ValueError)):
        found = re.search(r"load_in_[48]bit", str(call.error))
        if found:
            return f"{found[0]} belongs into quantization_config=BitsAndBytesConfig({found[0]}=True)."
    return None


@rule(
    "error",
    LESSON,
    mistake='model.generate(**inputs, max_new_tokens=5, stop_strings=["."])',
    fix='output = model.generate(**inputs, max_new_tokens=50, stop_strings=["."], tokenizer=tokenizer)',
    source="https://github.com/huggingface/transformers/issues/34571",
    explains="stop strings",
    encoders=True,
)
def stop_strings(call: Call) -> str | Said | None:
    """Stop strings are given without the tokenizer that they are matched with.

    `generate` sees ids only, so it raises a ValueError unless it gets the tokenizer too. The stop strings may also come
    from the checkpoint's generation_config.json.
    """
    if call.get("stop_strings") and call.arguments.get("tokenizer") is None:
        return f"stop_strings={call.get('stop_strings')!r} needs tokenizer=tokenizer in the same call."
    return None


@rule(
    "error",
    LESSON,
    mistake="""
    from transformers import TextStreamer
    model.generate(**inputs, max_new_tokens=5, num_beams=2, streamer=TextStreamer(tokenizer))
    """,
    fix="""
    from transformers import TextStreamer
    one = {name: tensor[:1] for name, tensor in inputs.items()}
    output = model.generate(**one, max_new_tokens=50, streamer=TextStreamer(tokenizer))
    """,
    source="https://huggingface.co/docs/transformers/main/en/generation_features#streaming",
    explains="(?i)streamer",
    encoders=True,
)
def streamer(call: Call) -> str | Said | None:
    """A streamer is given for more than one row, or for beam search.

    A text streamer prints one text as it grows. Beams change places while they grow, and several rows would be mixed:
    transformers raises a ValueError.
    """
    if call.arguments.get("streamer") is None:
        return None
    beams, copies = call.get("num_beams") or 1, call.get("num_return_sequences") or 1
    if isinstance(beams, int) and beams > 1:
        return f"A streamer can't follow num_beams={beams}: generate raises."
    one_row = isinstance(call.arguments["streamer"], TextStreamer)  # others may take a batch
    if one_row and (len(call.token_rows) > 1 or copies != 1):
        return f"A streamer follows one row, and this call has {len(call.token_rows) * copies}: it raises."
    return None


@functools.lru_cache
def _known_arguments(model_class: Any) -> set[str]:
    """The keywords that `generate` accepts for this kind of model."""
    known = set(vars(GenerationConfig())) | {
        "tokenizer",
        "assistant_tokenizer",
        "trust_remote_code",
        "use_model_defaults",
    }
    for function in (
        GenerationMixin.generate,
        model_class.generate,
        model_class.prepare_inputs_for_generation,
        model_class.forward,
    ):
        known |= set(inspect.signature(function).parameters)
    known |= {"output_attentions", "output_hidden_states", "num_items_in_batch", "cu_seq_lens_q", "cu_seq_lens_k"}
    return known - {"self", "kwargs", "model_kwargs"}


def _asked_a_batch_encoding(error: BaseException | None) -> bool:
    """Whether it is the AttributeError, mostly without a message, of an attribute that a BatchEncoding has not.

    A forward pass that gets one in place of ids raises a TypeError, which names it.
    """
    if isinstance(error, TypeError) and "not BatchEncoding" in str(error):
        return True
    if not isinstance(error, AttributeError) or error.__traceback__ is None:
        return False
    trace = error.__traceback__
    while trace.tb_next:
        trace = trace.tb_next
    return type(trace.tb_frame.f_locals.get("self")).__name__ == "BatchEncoding"
