"""Rules about types and values of settings, and settings that change nothing (lesson 5)."""

from typing import Any

from pitfalls.inspector.again import BEAM_SETTINGS, Code, again
from pitfalls.inspector.call import Call
from pitfalls.inspector.given import plain
from pitfalls.inspector.rule import Said, rule
from pitfalls.inspector.vocabulary import role_id, token_id
from pitfalls.language import _, ngettext

LESSON = "05_decoding_mode"
MOVED = "requires `trust_remote_code=True` in your `generate` call"
SPECIAL = ("pad_token_id", "eos_token_id", "bos_token_id", "decoder_start_token_id", "forced_eos_token_id")
WHOLE = {  # settings that count something, and their lowest value
    "max_new_tokens": 1,
    "max_length": 1,
    "min_new_tokens": 0,
    "min_length": 0,
    "top_k": 0,
    "num_beams": 1,
    "num_return_sequences": 1,
    "no_repeat_ngram_size": 0,
}
TAKES_FRACTION = ("max_new_tokens", "max_length")  # 12.0 works
SHARES = ("top_p", "min_p", "typical_p")  # from 0 to 1
NEEDS_FRACTION = ("temperature", "repetition_penalty")  # of whole numbers, only 1 works
SAMPLING = ("temperature", "top_k", *SHARES)  # not read where nothing is sampled
RAISES = (
    r"has to be a|has to be strictly|must be greater than|not supported between instances|can only concatenate str|"
    r"repeat_interleave|integer division or modulo|unsupported operand|num_return_sequences"
)


@rule(
    "error",
    "08_your_own_code",
    mistake="model.generate(**inputs, max_new_tokens=5, pad_token_id=[2, 0])  # the list of end ids",
    fix="output = model.generate(**inputs, max_new_tokens=50, pad_token_id=tokenizer.pad_token_id)",
    source="https://github.com/huggingface/text-generation-inference/pull/2774",
    explains="'<' not supported between instances of '(list|str)' and 'int'|invalid data type 'str'|dimensions 'str'|"
    "'NoneType' object cannot be interpreted|index out of range in self",
    encoders=True,
)
def special_id(call: Call) -> str | Said | None:
    """The id of a special token is a list, a text, or a number that no token has.

    Models such as Llama 3 have several end ids, so copying them into `pad_token_id` copies a list, and padding takes
    one id. A token's text is no id either. A pad id of -1 goes unseen until one row of a batch ends before another.
    """
    for name in SPECIAL:
        own, value = plain(getattr(call.defaults, name, None)), call.get(name)
        for wrong, of_model in ((value, False), (own, True)):
            said = None if call.made else _bad_id(call, name, wrong)
            if said:
                role = name.removesuffix("_token_id") if name in SPECIAL[:3] else "eos"
                own_id = role_id(call.tokenizer, role) is not None or role == "eos"
                right = Code(f"tokenizer.{role if own_id else 'eos'}_token_id")
                if isinstance(wrong, str) and token_id(call.tokenizer, wrong) is not None:
                    right = Code(f"tokenizer.convert_tokens_to_ids({wrong!r})")
                first = f"model.generation_config.{name} = {right}\n" if of_model or own == wrong else ""
                return Said(said, fix=first + again(call, **{name: right}))
    return None


@rule(
    "error",
    LESSON,
    mistake='model.generate(**inputs, max_new_tokens="12")  # as it came from the command line',
    fix="output = model.generate(**inputs, max_new_tokens=12)",
    source="https://github.com/togethercomputer/OpenChatKit/issues/91",
    explains=RAISES,
    encoders=True,
)
def invalid_setting(call: Call) -> str | Said | None:
    """A setting has a value of another type, or out of its range.

    A number that came as text raises a TypeError deep inside, and so do 10.0 for `top_k` and the whole number 2 for
    `repetition_penalty` or `temperature`. Others pass in silence and mean something else: `do_sample="False"` is a
    text, and any text is true, so the call samples; `top_p` is a share from 0 to 1, and 1.5 switches it off.
    """
    sample = call.get("do_sample")
    if isinstance(sample, str):
        wanted = sample.strip().lower() in ("true", "yes", "on", "1")
        given = f"do_sample={sample!r}"
        said = _("{setting} is a text, and any text counts as true: the call samples.", setting=given)
        return Said(said, "note" if wanted else "warning", again(call, do_sample=wanted))
    for name in (*WHOLE, *SHARES, *NEEDS_FRACTION):
        value = call.given(name)
        if value is None or isinstance(value, bool) or not isinstance(value, (str, int, float)):
            continue
        if name in SAMPLING and not call.samples and not (name == "top_k" and isinstance(value, str)):
            continue  # ignored-sampling-flags speaks
        found = _text(name, value) if isinstance(value, str) else _number(name, value)
        if found and (not call.made or found[1] == "warning"):  # a call that was made did not raise
            said, severity, right = found
            code = again(call, name) if right is None else again(call, **{name: right})
            return Said(said, severity, code)
    return None


@rule(
    "note",
    LESSON,
    mistake="model.generate(**inputs, max_new_tokens=5, do_sample=True, temperature=0.7, top_k=1)",
    fix="output = model.generate(**inputs, max_new_tokens=100, do_sample=True, temperature=0.7, top_p=0.9)",
    source="https://huggingface.co/docs/transformers/main_classes/text_generation#transformers.GenerationConfig",
    encoders=True,
)
def one_candidate(call: Call) -> str | Said | None:
    """Sampling is on, and a filter leaves one candidate: each draw takes the likeliest token, as greedy decoding does.

    `top_k=1`, `top_p=0` and `min_p=1` all leave only the first. Temperature and seed then change nothing, and several
    sequences come out as copies of one text.
    """
    if not call.samples or (call.get("num_beams") or 1) != 1:
        return None
    copies = call.get("num_return_sequences") or 1
    for name, alone, open_ in (("top_k", 1, 50), ("top_p", 0, 0.9), ("min_p", 1, 0.05)):
        value = call.get(name)
        if value != alone or isinstance(value, bool) or (call.given(name) is None and copies == 1):
            continue  # the model's own filter is what model-defaults speaks about
        setting, code = f"{name}={value}", again(call, **{name: open_})
        if copies == 1:
            said = _("{setting} leaves one candidate to draw from: the text is the greedy one.", setting=setting)
            return Said(said, "note", code)
        said = _(
            "{setting} leaves one candidate to draw from: the text is the greedy one, and the {copies} sequences are "
            "copies.",
            setting=setting,
            copies=copies,
        )
        return Said(said, "warning", code)
    return None


@rule(
    "warning",
    LESSON,
    mistake="model.generate(**inputs, max_new_tokens=5, length_penalty=2.0)",
    fix="output = model.generate(**inputs, max_new_tokens=50, num_beams=4, length_penalty=2.0)",
    source="https://huggingface.co/docs/transformers/main_classes/text_generation#transformers.GenerationConfig",
    encoders=True,
)
def ignored_beam_settings(call: Call) -> str | Said | None:
    """Settings of beam search are given without beams: they have no effect.

    `length_penalty`, `early_stopping` and the settings of groups of beams are read where `num_beams` is above 1 only.
    A length penalty does not make greedy decoding longer or shorter: `min_new_tokens` and the prompt do.
    """
    if call.get("num_beams") not in (None, 1) or call.arguments.get("custom_generate") is not None:
        return None
    plain_values = {"length_penalty": (None, 1), "early_stopping": (None, False), "num_beam_groups": (None, 1)}
    given = {name: call.given(name) for name in BEAM_SETTINGS[1:]}
    idle = [f"{name}={value!r}" for name, value in given.items() if value not in plain_values.get(name, (None, 0))]
    if not idle:
        return None
    said = ngettext(
        "{settings} has no effect: with num_beams=1 there are no beams.",
        "{settings} have no effect: with num_beams=1 there are no beams.",
        len(idle),
        settings=", ".join(idle),
    )
    harmless = all(text.startswith("early_stopping") for text in idle)  # it would only have saved time
    return Said(said, "note" if harmless else "warning", again(call, *BEAM_SETTINGS))


@rule(
    "error",
    "09_next_steps",
    mistake="model.generate(**inputs, max_new_tokens=5, penalty_alpha=0.6, top_k=4)",
    fix="output = model.generate(**inputs, max_new_tokens=50, repetition_penalty=1.1)",
    source="https://github.com/huggingface/transformers/issues/38268",
    explains=MOVED,
    encoders=True,
)
def removed_strategy(call: Call) -> str | Said | None:
    """Contrastive search, groups of beams, forced words and DoLa are no longer in the library.

    Since transformers 4.57 their code lies on the Hub, and generate loads and runs it only where
    `trust_remote_code=True` says so. Without, it raises a ValueError. `custom_generate="transformers-community/…"`
    names that code; read it before you trust it.
    """
    if call.arguments.get("custom_generate") is not None or call.arguments.get("trust_remote_code") or call.made:
        return None
    words = call.get("force_words_ids") or call.get("constraints")
    beams, groups, alpha = call.get("num_beams") or 1, call.get("num_beam_groups"), call.get("penalty_alpha")
    top_k = call.get("top_k")
    if words:
        name = "force_words_ids"
        instead = _("Instead: ask for the words in the prompt, or raise them with sequence_bias.")
        code = again(call, *BEAM_SETTINGS, "force_words_ids", "constraints")
    elif beams != 1 and isinstance(groups, int) and groups > 1:
        name, instead = "num_beam_groups", _("Instead: sampling gives answers that differ.")
        code = again(call, *BEAM_SETTINGS, do_sample=True)
    elif beams == 1 and not call.samples and alpha and isinstance(top_k, int) and top_k > 1:
        name = "penalty_alpha"
        instead = _("Instead: repetition_penalty=1.1 also keeps greedy decoding from turning in a circle.")
        code = again(call, "penalty_alpha", "top_k", repetition_penalty=1.1)
    elif beams == 1 and call.get("dola_layers") is not None:
        name, instead, code = "dola_layers", _("Instead: leave it out."), again(call, "dola_layers")
    else:
        return None
    raises = _("{setting} asks for code that is on the Hub since transformers 4.57: generate raises.", setting=name)
    return Said(f"{raises} {instead}", fix=code)


@rule(
    "error",
    "08_your_own_code",
    mistake="""
    from transformers import LlamaConfig, LlamaForCausalLM
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    small = LlamaForCausalLM(LlamaConfig(vocab_size=1000, **sizes))
    model.generate(**inputs, max_new_tokens=5, assistant_model=small)
    """,
    fix="output = model.generate(**inputs, max_new_tokens=50, prompt_lookup_num_tokens=3)  # needs no assistant",
    source="https://github.com/huggingface/transformers/issues/45307",
    explains="different tokenizers|`assistant_tokenizer` is not required",
    encoders=True,
)
def assistant_tokenizer(call: Call) -> str | Said | None:
    """The assistant of assisted generation has another vocabulary, and the two tokenizers are not given.

    The model checks the assistant's ids, so both must mean the same by them. With two vocabularies `generate` goes
    over the text, and needs `tokenizer=` and `assistant_tokenizer=`; with one it refuses the second.
    """
    assistant = call.arguments.get("assistant_model")
    sizes = [_vocabulary(model) for model in (call.model, assistant)]
    if assistant is None or None in sizes or call.made:
        return None
    missing = [name for name in ("tokenizer", "assistant_tokenizer") if call.arguments.get(name) is None]
    if sizes[0] != sizes[1] and missing:
        told = {"tokens": sizes[0], "assistant": sizes[1], "argument": f"{missing[0]}="}
        if len(missing) == 1:
            return _(
                "The model has {tokens} tokens and the assistant {assistant}: generate raises without {argument}.",
                **told,
            )
        return _(
            "The model has {tokens} tokens and the assistant {assistant}: generate raises without tokenizer= and "
            "assistant_tokenizer=.",
            **told,
        )
    if sizes[0] == sizes[1] and "assistant_tokenizer" not in missing:
        return _(
            "Model and assistant both have {tokens} tokens: generate raises because of assistant_tokenizer=.",
            tokens=sizes[0],
        )
    return None


def _bad_id(call: Call, name: str, value: Any) -> str | None:
    """What is wrong with the value of a special id; nothing with None, and with an end id of -1, which ends nothing."""
    several, setting = name in ("eos_token_id", "forced_eos_token_id"), f"{name}={value!r}"
    if isinstance(value, str) or (isinstance(value, (list, tuple)) and any(isinstance(each, str) for each in value)):
        return _("{setting} is a text, and an id is a number: generate raises.", setting=setting)
    if name == "pad_token_id" and isinstance(value, (list, tuple)):
        return _("{setting} is a list, and rows are padded with one id: generate raises.", setting=setting)
    if several and isinstance(value, (list, tuple)) and any(each is None for each in value):
        return _("{setting} has a None in it, from a token that the tokenizer lacks: generate raises.", setting=setting)
    negative = name == "pad_token_id" and isinstance(value, int) and value < 0
    if negative and len(call.token_rows) > 1 and any(end >= 0 for end in call.end_ids):
        return _(
            "{setting} is no token: as soon as one row ends before another, generate raises an IndexError.",
            setting=setting,
        )
    return None


def _text(name: str, value: str) -> tuple[str, str, Any]:
    """What is wrong with a text in place of a number, how severe it is, and the number; None where there is none."""
    try:
        right: Any = float(value)
        right = int(right) if name in WHOLE else right
    except ValueError:
        right = None
    setting = f"{name}={value!r}"
    return _("{setting} is a text and must be a number: generate raises.", setting=setting), "error", right


def _number(name: str, value: float) -> tuple[str, str, Any] | None:
    """The same for a number of the wrong kind, or out of its range."""
    setting, lowest = f"{name}={value}", WHOLE.get(name)
    if name in SHARES and value > 1 and name != "min_p":
        right = value / 100 if name == "top_p" and value <= 100 and value > 2 else None
        return _("{setting} is a share from 0 to 1, and above 1 it is ignored.", setting=setting), "warning", right
    if name in SHARES and not 0 <= value <= 1:
        return _("{setting} is outside its range, from 0 to 1: generate raises.", setting=setting), "error", None
    if lowest is not None and value < lowest:
        said = _(
            "{setting} is below {lowest}, which is the lowest value: generate raises.", setting=setting, lowest=lowest
        )
        return said, "error", _default(name)
    if name == "repetition_penalty" and value <= 0:
        return _("{setting} must be above 0, and 1.0 is neutral: generate raises.", setting=setting), "error", None
    if lowest is not None and isinstance(value, float) and name not in TAKES_FRACTION and value not in (0, 1):
        return _("{setting} is no whole number (an int): generate raises.", setting=setting), "error", round(value)
    if name in NEEDS_FRACTION and isinstance(value, int) and value > 1:
        said = _("{setting} is a whole number, and must be a float: generate raises.", setting=setting)
        return said, "error", float(value)
    return None


def _default(name: str) -> int | None:
    return {"max_new_tokens": 50, "top_k": 0}.get(name)


def _vocabulary(model: Any) -> int | None:
    config: Any = getattr(model, "config", None)
    return getattr(config.get_text_config(), "vocab_size", None) if hasattr(config, "get_text_config") else None
