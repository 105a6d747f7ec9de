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

from pitfalls.inspector.again import BEAM_SETTINGS, Code, again
from pitfalls.inspector.call import ID_TYPES, SETTINGS, Call
from pitfalls.inspector.rule import GENERATE, Said, rule
from pitfalls.inspector.vocabulary import role_id
from pitfalls.language import N_, _

LESSON = "08_your_own_code"
OTHER_NAMES = {  # of other interfaces, and what it is called here
    "max_tokens": "max_new_tokens",
    "max_completion_tokens": "max_new_tokens",
    "max_gen_len": "max_new_tokens",
    "min_tokens": "min_new_tokens",
    "n": "num_return_sequences",
    "stop": "stop_strings",
    "stop_sequences": "stop_strings",
    "repeat_penalty": "repetition_penalty",
    "temp": "temperature",
    "beam_size": "num_beams",
    "stream": "streamer",
    "seed": "transformers.set_seed",
    "config": "generation_config",
}
NO_EQUIVALENT = {  # what it does elsewhere
    "frequency_penalty": N_(
        "generate takes no {name!r}, and has no equivalent: it is subtracted for each time a token stands in the "
        "answer, and 0 is neutral; repetition_penalty divides, counts the prompt too, and is neutral at 1."
    ),
    "presence_penalty": N_(
        "generate takes no {name!r}, and has no equivalent: it is subtracted once from each token of the answer, and "
        "0 is neutral; repetition_penalty divides, counts the prompt too, and is neutral at 1."
    ),
    "best_of": N_(
        "generate takes no {name!r}, and has no equivalent: it draws several answers and returns the likeliest; "
        "beams are not drawn."
    ),
}
NEAR = 0.88  # of 1: how alike two names are when one is taken for the other misspelt; `pad_token` is not


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
        kind = type(given).__name__ if isinstance(given, Mapping) else "BatchEncoding"
        return _(
            'A {type} stands where a tensor of ids belongs: write `**inputs`, or `inputs["input_ids"]`.', type=kind
        )
    said = None
    if isinstance(given, str) or (isinstance(given, (list, tuple)) and given and isinstance(given[0], str)):
        said = _("The input is text, and generate takes token ids: tokenize it first.")
    elif given is not None and not isinstance(given, torch.Tensor):
        said = _(
            'The input is a {type} and must be a tensor: give the tokenizer return_tensors="pt".',
            type=type(given).__name__,
        )
    elif isinstance(given, torch.Tensor):
        named = "input_ids" in call.arguments or getattr(call.model, "main_input_name", "") == "input_ids"
        if given.ndim == 1 or (given.ndim != 2 and named):  # sound has other shapes
            said = _(
                'The ids have shape {shape}, not (rows, tokens): give the tokenizer return_tensors="pt".',
                shape=tuple(given.shape),
            )
        elif named and given.numel() and given.dtype not in ID_TYPES:
            kind = str(given.dtype).removeprefix("torch.")
            said = _("The ids are of type {type}, and token ids are whole numbers: it raises.", type=kind)
    return said and Said(said, fix=_tokenized(call, given))


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
    config = call.arguments.get("generation_config")
    if isinstance(config, Mapping):
        return _("generation_config is a dictionary: write GenerationConfig(**settings), or give the settings by name.")
    kind: Any = type(call.model)
    known = _known_arguments(kind) | (_of_encoder(call.model) if call.has_encoder else set())
    unknown = [name for name, value in call.arguments.items() if value is not None and name not in known]
    if "token_type_ids" in unknown:
        said = _("This model takes no token_type_ids: give the tokenizer return_token_type_ids=False.")
        return Said(said, fix=f'inputs.pop("token_type_ids", None)\n{again(call)}')
    if unknown:
        name = unknown[0]
        if name in NO_EQUIVALENT:
            return Said(_(NO_EQUIVALENT[name], name=name), fix=again(call))
        near = _near(name, known)
        said = _("generate takes no {name!r}.", name=name)
        if near:
            said = _("generate takes no {name!r}; here it is {near!r}.", name=name, near=near)
        return Said(said, fix=_renamed(call, {other: call.arguments[other] for other in unknown}, known))
    kept = {name: value for name, value in _misspelt(call).items() if _near(name, known)}
    if kept:
        names = ", ".join(_("{name!r} (here it is {near!r})", name=name, near=_near(name, known)) for name in kept)
        said = _("The generation_config has {names}: it keeps any name, and nothing reads this one.", names=names)
        return Said(said, "warning", _renamed(call, kept, known))
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
        model.name_or_path,
        device_map="auto",
        quantization_config=BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4"),
    )
    """,
    source="https://github.com/hiyouga/LlamaFactory/issues/4157",
    explains="load_in_[48]bit",
    encoders=True,
)
def removed_keyword(call: Call) -> str | Said | None:
    """`load_in_4bit` and `load_in_8bit` are no longer arguments of `from_pretrained`.

    Transformers 5 takes them only inside a BitsAndBytesConfig. Given bare they end in a TypeError of the model's
    constructor, or in a ValueError where a quantization_config is given too. In four bits say which: without
    `bnb_4bit_quant_type="nf4"` they are fp4 (perplexity of this course's model on one text: fp32 7.6, nf4 10.0, fp4
    14.1).
    """
    if isinstance(call.error, (TypeError, ValueError)):
        found = re.search(r"load_in_[48]bit", str(call.error))
        if found:
            said = _(
                "{argument} belongs into a BitsAndBytesConfig, which is given as quantization_config.",
                argument=found[0],
            )
            eight = str(removed_keyword.fix).replace(
                'load_in_4bit=True, bnb_4bit_quant_type="nf4"', "load_in_8bit=True"
            )
            return Said(said, fix=eight if found[0] == "load_in_8bit" else None)
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
    strings = call.get("stop_strings")
    if strings and call.arguments.get("tokenizer") is None:
        said = _("stop_strings={strings!r} needs tokenizer=tokenizer in the same call.", strings=strings)
        return Said(said, fix=again(call, tokenizer=Code("tokenizer")))
    return None


@rule(
    "error",
    "09_next_steps",
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
    rows = max(1, len(call.token_rows))
    said = None
    if isinstance(beams, int) and beams > 1:
        said = _("A streamer can't follow num_beams={beams}: generate raises.", beams=beams)
    elif isinstance(call.arguments["streamer"], TextStreamer) and (rows > 1 or copies != 1):  # others may take a batch
        said = _("A streamer follows one row, and this call has {rows}: it raises.", rows=rows * copies)
    if said is None:
        return None
    only_answer = ", skip_prompt=True, skip_special_tokens=True" if any(call.templated) else ""
    code = again(call, "num_return_sequences", *BEAM_SETTINGS, streamer=Code(f"TextStreamer(tokenizer{only_answer})"))
    first = "one = {name: tensor[:1] for name, tensor in inputs.items()}\n"
    code = first + code.replace("**inputs", "**one") if rows > 1 else code
    return Said(said, fix=f"from transformers import TextStreamer\n{code}")


@functools.lru_cache
def _known_arguments(model_class: Any) -> set[str]:
    """The keywords that `generate` accepts for this kind of model."""
    known = SETTINGS | {
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


def _near(name: str, known: set[str]) -> str | None:
    """What a name that `generate` does not know is called here."""
    if name in OTHER_NAMES or name in NO_EQUIVALENT:
        return OTHER_NAMES.get(name)
    return next(iter(difflib.get_close_matches(str(name), sorted(known), n=1, cutoff=0.7)), None)


def _misspelt(call: Call) -> dict[str, Any]:
    """What the caller's configuration holds under names like those of settings, and the checkpoint's does not."""
    config = call.arguments.get("generation_config")
    own = vars(config) if isinstance(config, GenerationConfig) else {}
    settings, checkpoint = sorted(SETTINGS), vars(call.defaults) if call.defaults else {}
    return {
        name: value
        for name, value in own.items()
        if name[0] != "_" and value is not None and name not in settings and name not in checkpoint
        if name in OTHER_NAMES or difflib.get_close_matches(name, settings, n=1, cutoff=NEAR)
    }


def _renamed(call: Call, unknown: dict[str, Any], known: set[str]) -> str:
    """The call with the settings under the names that they have here."""
    settings: dict[str, Any] = {}
    first = ""
    for name, value in unknown.items():
        near = _near(name, known)
        if name == "seed":
            first = f"import transformers\ntransformers.set_seed({value!r})\n"
        elif near == "streamer":
            first += "from transformers import TextStreamer\n"
            settings[near] = Code("TextStreamer(tokenizer)")
        elif near in SETTINGS and isinstance(value, (bool, int, float, str, list)):
            settings[near] = value
    if settings.keys() & {"temperature", "top_p", "top_k", "num_return_sequences"} and not call.samples:
        settings["do_sample"] = True
    return first + again(call, **settings)


def _tokenized(call: Call, given: Any) -> str:
    """Code that makes ids of texts, for a call that was given something else."""
    padded = 'padding=True, return_tensors="pt"' if call.has_encoder else (
        'padding=True, padding_side="left", return_tensors="pt"'
    )  # fmt: skip
    pad = "" if role_id(call.tokenizer, "pad") is not None else "tokenizer.pad_token = tokenizer.eos_token\n"
    one = isinstance(given, str)
    made = (
        'inputs = tokenizer(texts[0], return_tensors="pt")\n' if one else f"{pad}inputs = tokenizer(texts, {padded})\n"
    )
    return made + again(call)


def _of_encoder(model: Any) -> set[str]:
    """What the encoder takes, and the decoder under `decoder_`: generate hands that on."""
    inner = getattr(model, getattr(model, "base_model_prefix", "") or "base_model", None)
    taken: set[str] = set()
    for part, prefix in (("encoder", ""), ("decoder", "decoder_")):
        module = getattr(model, part, None) or getattr(inner, part, None)
        if module is not None:
            taken |= {prefix + name for name in inspect.signature(module.forward).parameters}
    return taken
