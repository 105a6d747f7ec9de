"""Exercises of lesson 1."""

import tempfile
from math import isclose

import torch

from pitfalls.language import N_, _
from pitfalls.practice.feedback import Hint, exercise
from pitfalls.practice.prediction import question

question(
    "01",
    N_("Many tutorials load a model like this. What comes out today?"),
    """try:
    outcome = type(AutoModelForCausalLM.from_pretrained(SMALL, load_in_4bit=True)).__name__
except Exception as error:
    outcome = type(error).__name__
outcome""",
    {
        "LlamaForCausalLM": N_("A model, in 4 bits: that was so until version 4 of transformers."),
        "TypeError": N_("The keyword is gone, and Python knows no argument of this name."),
        "ImportError": N_("That would be a missing bitsandbytes. The code doesn't get so far."),
    },
)


WEIGHTS = 7.242e9  # of Mistral-7B-v0.1
TABLES = 0.262e9  # of these: the token table and the output table, which are not quantized
CARD = 16  # GB
IN_NF4 = (WEIGHTS - TABLES) * 4.5 / 8 + TABLES * 2
BYTES = {"float32": WEIGHTS * 4, "bfloat16": WEIGHTS * 2, "nf4": IN_NF4}
NF4_SLIPS = {  # in bytes
    (WEIGHTS - TABLES) * 4 / 8 + TABLES * 2: N_("nf4: the scales are missing: with them a weight takes 4.5 bits."),
    WEIGHTS * 4.5 / 8: N_("nf4: the two tables are not quantized: they take 2 bytes a weight."),
    WEIGHTS * 4 / 8: N_("nf4: 4 bits for every weight? Add the scales, 4.5 bits, and the two tables in 16 bits."),
    WEIGHTS * 4.5 / 8 + TABLES * 2: N_("nf4: the tables are counted twice: take them out of the weights in 4.5 bits."),
    (WEIGHTS - TABLES) * 4.5 / 8: N_("nf4: the two tables are missing. They stay in 16 bits."),
    (WEIGHTS - TABLES) * 4.5 / 8 + TABLES * 4: N_(
        "nf4: the two tables take 2 bytes a weight here: they stay in 16 bits."
    ),
    (WEIGHTS - TABLES) * 4.5 / 8 + TABLES * 16: N_("nf4: 16 bits were taken for 16 bytes. A byte has 8 bits."),
    (WEIGHTS - TABLES) * 4.5 + TABLES * 2: N_("nf4: 4.5 bits were taken for 4.5 bytes. A byte has 8 bits."),
    (WEIGHTS - TABLES) * 4.5 + TABLES * 16: N_("nf4: that is gigabits. A byte has 8 bits: divide by 8."),
}


@exercise("01", N_("The memory of a 7B model in three formats"))
def memory_of_7b(answer) -> str:
    """a dict with the gigabytes of each format, and a list of the formats that fit."""
    if not isinstance(answer, dict) or set(answer) != {*BYTES, "fits"}:
        raise Hint(_("Expected a dict with the keys {keys}; keep those of the stub.", keys=[*BYTES, "fits"]))
    needed = {name: size / 1e9 for name, size in BYTES.items()}
    for name, expected in needed.items():
        _check_size(name, answer[name], expected)
    fits = answer["fits"]
    if not isinstance(fits, (list, tuple, set)) or not all(name in list(BYTES) for name in fits):
        raise Hint(_("`fits` is a list with some of the names {names}.", names=list(BYTES)))
    for name, expected in needed.items():
        values = {"name": name, "size": expected, "card": CARD}
        if name in fits and expected >= CARD:
            raise Hint(_("{name} doesn't fit: it needs {size:.1f} GB, and the card has {card}.", **values))
        if name not in fits and expected < CARD:
            raise Hint(_("{name} fits too: its weights need {size:.1f} GB, and the card has {card}.", **values))
    return _("Weights times bits, divided by 8: that tells what fits, before you download anything.")


def _check_size(name: str, given, expected: float) -> None:
    if isinstance(given, bool) or not isinstance(given, (int, float)):
        raise Hint(_("{name}: expected a number of gigabytes, came {given!r}.", name=name, given=given))

    def is_about(value: float) -> bool:
        return isclose(given, value, rel_tol=0.01)

    if isclose(given, expected, rel_tol=0.02):  # 4.5 for 4.45 is right
        return
    if is_about(expected * 1e9):
        raise Hint(_("{name}: that is bytes. Divide by 1e9 for gigabytes.", name=name))
    if is_about(expected * 1e9 / 2**30):
        raise Hint(_("{name}: that is GiB, of 2**30 bytes each. Here 1 GB is 1e9 bytes.", name=name))
    for slip, hint in NF4_SLIPS.items():
        if name == "nf4" and is_about(slip / 1e9):
            raise Hint(_(hint))
    if is_about(expected * 8):
        raise Hint(_("{name}: that is gigabits. A byte has 8 bits: divide by 8.", name=name))
    raise Hint(
        _(
            "{name}: multiply the weights by the bytes per weight, and divide by 1e9. Came: {given:g}.",
            name=name,
            given=given,
        )
    )


@exercise("01", N_("Bring the old keyword up to date"))
def new_keyword(keywords) -> str:
    """a dict of keyword arguments for from_pretrained."""
    from transformers import BitsAndBytesConfig

    if isinstance(keywords, BitsAndBytesConfig):
        raise Hint(_("The config is right, but it needs a name: put it in the dict, under `quantization_config`."))
    if not isinstance(keywords, dict):
        raise Hint(_("Expected a dict of keyword arguments; this is {value!r}.", value=keywords))
    if {"load_in_4bit", "load_in_8bit"} & set(keywords):
        raise Hint(
            _("load_in_4bit is no longer a keyword of from_pretrained: it went into the object BitsAndBytesConfig.")
        )
    if "quantization_config" not in keywords:
        raise Hint(
            _(
                "from_pretrained wants the config under the name `quantization_config`. Came: {names}.",
                names=list(keywords),
            )
        )
    config = keywords["quantization_config"]
    if config is BitsAndBytesConfig:
        raise Hint(_("That is the class. Call it: BitsAndBytesConfig(…)."))
    if not isinstance(config, (BitsAndBytesConfig, dict)):
        raise Hint(_("`quantization_config` takes a BitsAndBytesConfig; this is {value!r}.", value=config))
    said = config if isinstance(config, dict) else config.to_dict()
    if said.get("load_in_4bit") is not True:
        raise Hint(_("Nothing in this config says 4 bits: write load_in_4bit=True into BitsAndBytesConfig(…)."))
    if said.get("bnb_4bit_quant_type") != "nf4":
        raise Hint(_('That is 4 bits in the format fp4, the default. Ask for nf4: bnb_4bit_quant_type="nf4".'))
    if keywords.get("device_map") != "auto":
        raise Hint(_("The old call had device_map='auto' too: keep it."))
    if not getattr(_load_small_model(keywords), "is_loaded_in_4bit", False):
        raise Hint(_("A small model was loaded with these keywords, but not in 4 bits."))
    return _("A small model with these keywords came back in nf4. Any other model loads in the same way.")


def _load_small_model(keywords: dict):
    """A model of random weights, saved and loaded again: it takes a moment, whatever model the lesson runs on."""
    from transformers import AutoModelForCausalLM, LlamaConfig

    shape = {"hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    with tempfile.TemporaryDirectory() as folder, torch.random.fork_rng():
        AutoModelForCausalLM.from_config(LlamaConfig(vocab_size=64, **shape)).save_pretrained(folder)
        try:
            return AutoModelForCausalLM.from_pretrained(folder, **keywords)
        except Exception as error:
            told = f"{type(error).__name__}: {error}"
            raise Hint(_("from_pretrained stopped with {error}", error=told)) from None
