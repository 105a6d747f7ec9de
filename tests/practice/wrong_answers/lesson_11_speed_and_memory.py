"""Of lesson 11."""

CACHE = """
def answer(config, tokens, rows, bytes_each):
    heads = config["{heads}"]
    head_size = {size}
    window = {window}
    return {layers} * heads * head_size * {pair} * {each} * min(tokens, window) * {rows}{unit}
pitfalls.practice.cache_of_a_config(answer)"""
SIZE = 'config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]'
WINDOW = 'config.get("sliding_window") or tokens'
LAYERS = 'config["num_hidden_layers"]'

BATCH = """
answer = {{
    "16 bits, 1,500 tokens": {few},
    "4 bits, 1,500 tokens": {many},
    "4 bits, 8,192 tokens": {long},
}}
pitfalls.practice.largest_batch(answer)"""
ROW = "131_072 * 1500"


def cache(hint, heads="num_key_value_heads", size=SIZE, window=WINDOW, layers=LAYERS, pair="2", each="bytes_each",
          rows="rows", unit="") -> tuple[str, str]:  # fmt: skip
    code = CACHE.format(
        heads=heads, size=size, window=window, layers=layers, pair=pair, each=each, rows=rows, unit=unit
    )
    return code, hint


def batch(hint, few="7", many="58", long="21") -> tuple[str, str]:
    return BATCH.format(few=few, many=many, long=long), hint


WRONG = {
    "cache_of_a_config": [
        cache("Only those with keys and values of their own", heads="num_attention_heads"),
        cache("a key *and* a value", pair="1"),
        cache("This is one layer", layers="1"),
        cache("This is one row", rows="1"),
        cache("These are numbers and not bytes", each="1"),
        cache("says its `head_dim`", size='config["hidden_size"] // config["num_attention_heads"]'),
        cache("thrown away", window="tokens"),
        cache("This is in GB", unit=" / 1e9"),
        cache("This is in MB", unit=" / 1e6"),
        cache("expected 23,040,000 bytes", size='config["hidden_size"]'),
        cache("Return one number", unit=", 0"),
        cache("KeyError: 'head_dim'", size='config["head_dim"]'),
        cache("KeyError: 'sliding_window'", window='config["sliding_window"]'),
        cache("TypeError", window='config.get("sliding_window", tokens)'),
    ],
    "largest_batch": [
        batch("the weights are in the memory too", few="81"),
        batch("Only those with keys and values of their own", few=f"int(1.5e9 // ({ROW} * 4))"),
        batch("a key *and* a value", few=f"int(1.5e9 // ({ROW} / 2))"),
        batch("4 bits, 8,192 tokens: This config has a `sliding_window`", long="10"),
        batch("a part of a row is no row", few=f"1.5e9 / ({ROW})"),
        batch("one too many", many="59"),
        batch("one too many", few=f"round(1.5e9 / ({ROW}))"),
        (batch("")[0].replace('    "4 bits, 8,192 tokens": 21,\n', ""), "'4 bits, 8,192 tokens' is missing"),
        batch("4 bits, 1,500 tokens: 12 is not it", many="12"),
        batch("give a number of rows", few="'seven'"),
        (batch("")[0].replace("answer = {", "answer = [{").replace("}\npitf", "}]\npitf"), "Give a dict"),
    ],
}  # fmt: skip
