"""The prediction and the exercises of lesson 11."""

from numbers import Real
from typing import Any

from pitfalls.language import N_, _, ngettext
from pitfalls.practice.feedback import Hint, exercise, run
from pitfalls.practice.prediction import question

question(
    "11",
    N_("How many tokens does the model read to write these 10?"),
    """inputs = tokenizer("A sequence of numbers: 1, 2", return_tensors="pt").to(model.device)
read = []
layer = model.get_input_embeddings()
hook = layer.register_forward_hook(lambda layer, given, out: read.append(given[0].shape[1]))
model.generate(**inputs, max_new_tokens=10)
hook.remove()
sum(read)""",
    {
        10: N_(
            "The prompt alone gives the first new token only. For the second the model must also have read the first."
        ),
        19: N_("The prompt once, then each new token once; the last one is written and never read."),
        20: N_("The prompt and all new tokens: nearly. But what should it read the last new token for?"),
        145: N_("That would be the whole text again for each new token. There is something that spares it."),
    },
)

Config = dict[str, Any]

# What matters in the config.json of models with a cache: the numbers of SmolLM2-135M-Instruct, of Mistral-7B-v0.1
# (https://huggingface.co/mistralai/Mistral-7B-v0.1/blob/main/config.json), and of one like Qwen3, with a head size
# of its own. Those of a model without groups of heads come last.
SMALL: Config = {"num_hidden_layers": 30, "hidden_size": 576, "num_attention_heads": 9, "num_key_value_heads": 3}
MISTRAL: Config = {
    "num_hidden_layers": 32, "hidden_size": 4096, "num_attention_heads": 32, "num_key_value_heads": 8,
    "sliding_window": 4096,
}  # fmt: skip
OWN_SIZE: Config = {
    "num_hidden_layers": 28, "hidden_size": 1024, "num_attention_heads": 16, "num_key_value_heads": 8, "head_dim": 128,
    "sliding_window": None,
}  # fmt: skip


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def _cache(config: Config, tokens: int, rows: int, bytes_each: int, slip: str = "") -> int:
    """Bytes of the cache, as they are or as they come out with one slip."""
    heads, size = config["num_attention_heads"], config["hidden_size"] // config["num_attention_heads"]
    if slip != "all heads":
        heads = config["num_key_value_heads"]
    if slip != "head size":
        size = config.get("head_dim") or size
    if slip != "window":
        tokens = min(tokens, config.get("sliding_window") or tokens)
    layers = 1 if slip == "layers" else config["num_hidden_layers"]
    pair = 1 if slip == "pair" else 2
    return (
        layers * heads * size * pair * (1 if slip == "bytes" else bytes_each) * tokens * (1 if slip == "rows" else rows)
    )


SLIPS = {
    "head size": N_(
        "This config says its `head_dim`, and it is not hidden size / attention heads. Take it where it is there."
    ),
    "all heads": N_(
        "This counts all attention heads. Only those with keys and values of their own are kept: `num_key_value_heads`."
    ),
    "pair": N_("This is half of it: for each token a key *and* a value are kept."),
    "layers": N_("This is one layer. Each layer keeps keys and values of its own."),
    "rows": N_("This is one row of the batch. Each row keeps a cache of its own."),
    "bytes": N_("These are numbers and not bytes: each takes `bytes_each` bytes."),
    "window": N_(
        "This config has a `sliding_window`: what is further back than that is thrown away, so tokens beyond it "
        "cost nothing."
    ),
}


@exercise("11", N_("The cache's bytes, from a config"))
def cache_of_a_config(answer) -> str:
    """a function that returns the bytes of the cache as a whole number."""
    cases: list[tuple[Config, int, int, int]] = [
        (SMALL, 500, 1, 4),
        (SMALL, 500, 64, 2),
        (OWN_SIZE, 2000, 4, 2),
        (MISTRAL, 1500, 2, 2),
        (MISTRAL, 20_000, 3, 2),
    ]
    for config, tokens, rows, bytes_each in cases:
        given = run(answer, dict(config), tokens, rows, bytes_each)
        if not _is_number(given):
            raise Hint(_("Return one number, the bytes. Came: {kind}.", kind=type(given).__name__))
        wanted = _cache(config, tokens, rows, bytes_each)
        if abs(given - wanted) <= wanted / 1000:  # one token more or less in the window
            continue
        for slip, hint in SLIPS.items():
            if given == _cache(config, tokens, rows, bytes_each, slip) != wanted:
                raise Hint(_(hint))
        for unit, size in {"GB": 1e9, "MB": 1e6, "GiB": 2**30}.items():
            if abs(given * size - wanted) <= wanted / 100:
                raise Hint(_("This is in {unit}. Return bytes.", unit=unit))
        shown = ", ".join(f"{name} {value}" for name, value in config.items())
        raise Hint(
            _(
                "For {tokens:,} tokens in each of {rows} rows, with {bytes_each} bytes a number, and this config "
                "({config}), expected {wanted:,} bytes. Came: {given:,}.",
                tokens=tokens,
                rows=rows,
                bytes_each=bytes_each,
                config=shown,
                wanted=wanted,
                given=given,
            )
        )
    return _("It holds for groups of heads, for a head size of its own, and beyond a sliding window.")


# Weights in GB and tokens of each row, for Mistral-7B-v0.1 on a card of 16 GB with a cache of 16 bits.
ROOM = 16.0
CASES = {
    "16 bits, 1,500 tokens": (14.5, 1500),
    "4 bits, 1,500 tokens": (4.5, 1500),
    "4 bits, 8,192 tokens": (4.5, 8192),
}


@exercise("11", N_("The largest batch in 16 GB"))
def largest_batch(answer) -> str:
    """a dict with a whole number of rows for each of the three cases."""
    if not isinstance(answer, dict):
        told = _("Give a dict, with a number of rows for each case. Came: {kind}.", kind=type(answer).__name__)
        raise Hint(told)
    for name, (weights, tokens) in CASES.items():
        if name not in answer:
            raise Hint(_("{case!r} is missing.", case=name))
        given = answer[name]
        if not _is_number(given):
            kind = type(given).__name__
            raise Hint(_("{case}: give a number of rows. Came: {kind}.", case=name, kind=kind))
        wanted = _fit(weights, tokens)
        if given == wanted:
            continue
        _explain_rows(name, given, wanted, weights, tokens)
    few, many, long = (answer[name] for name in CASES)
    return _(
        "Smaller weights leave room for {many:g} rows in the place of {few:g}; and at 8,192 tokens the window still "
        "lets {long:g} rows in. Leave some of it free: each step needs memory for its own numbers too.",
        many=many,
        few=few,
        long=long,
    )


def _explain_rows(case: str, given: Any, wanted: int, weights: float, tokens: int) -> None:
    if int(given) != given:
        raise Hint(_("{case}: a part of a row is no row. Round down, with `int(…)` or `//`.", case=case))
    if given == wanted + 1:
        told = ngettext(
            "{case}: {n} rows are one too many, as they need more than is left. Round down.",
            "{case}: {n} rows are one too many, as they need more than is left. Round down.",
            wanted + 1,
            case=case,
        )
        raise Hint(told)
    if given == _fit(0, tokens):
        told = _("{case}: the weights are in the memory too. What is left beside them is for the cache.", case=case)
        raise Hint(told)
    for slip in ("all heads", "pair", "layers", "bytes", "window"):
        if given == _fit(weights, tokens, slip) != wanted:
            raise Hint(_("{case}: {hint}", case=case, hint=_(SLIPS[slip])))
    told = N_("{case}: {rows:g} is not it. How many bytes are left, and how many does one row take?")
    raise Hint(_(told, case=case, rows=given))


def _fit(weights: float, tokens: int, slip: str = "") -> int:
    return int((ROOM - weights) * 1e9 // _cache(MISTRAL, tokens, 1, 2, slip))
