"""Wrong answers in lesson 1, and a piece of the hint that each must get."""

MEMORY = """
mistral, tables = 7.242e9, 0.262e9
answer = {{"float32": {}, "bfloat16": {}, "nf4": {}, "fits": {}}}
pitfalls.practice.memory_of_7b(answer)"""


def memory(*sizes: str, fits: str = "['bfloat16', 'nf4']") -> str:
    return MEMORY.format(*sizes, fits)


RIGHT = ["mistral * 4 / 1e9", "mistral * 2 / 1e9", "((mistral - tables) * 4.5 / 8 + tables * 2) / 1e9"]


def keyword(dictionary: str) -> str:
    return f"from transformers import BitsAndBytesConfig\nanswer = {dictionary}\npitfalls.practice.new_keyword(answer)"


NF4 = 'BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4")'

WRONG = {
    "memory_of_7b": [
        (memory("mistral * 32 / 1e9", *RIGHT[1:]), "gigabits"),
        (memory(*RIGHT[:2], "mistral * 0.5 / 1e9"), "4 bits for every weight?"),
        (memory(*RIGHT[:2], "mistral * 4.5 / 8 / 1e9"), "the two tables are not quantized"),
        (memory(*RIGHT[:2], "((mistral - tables) * 0.5 + tables * 2) / 1e9"), "the scales are missing"),
        (memory(*RIGHT[:2], "(mistral * 4.5 / 8 + tables * 2) / 1e9"), "counted twice"),
        (memory(*RIGHT[:2], "(mistral - tables) * 4.5 / 8 / 1e9"), "the two tables are missing"),
        (memory(*RIGHT[:2], "((mistral - tables) * 4.5 / 8 + tables * 4) / 1e9"), "stay in 16 bits"),
        (memory(*RIGHT[:2], "((mistral - tables) * 4.5 / 8 + tables * 16) / 1e9"), "16 bits were taken for 16 bytes"),
        (memory(*RIGHT[:2], "((mistral - tables) * 4.5 + tables * 2) / 1e9"), "4.5 bits were taken for 4.5 bytes"),
        (memory(*RIGHT[:2], "((mistral - tables) * 4.5 + tables * 16) / 1e9"), "that is gigabits"),
        (memory(*(size.replace("1e9", "2**30") for size in RIGHT)), "that is GiB"),
        (memory("mistral * 4", *RIGHT[1:]), "that is bytes"),
        (memory("mistral / 1e9", *RIGHT[1:]), "multiply the weights by the bytes per weight"),
        (memory("None", *RIGHT[1:]), "expected a number"),
        (memory("float('nan')", *RIGHT[1:]), "multiply the weights"),
        (memory(*RIGHT, fits="['float32', 'bfloat16', 'nf4']"), "float32 doesn't fit: it needs 29.0 GB"),
        (memory(*RIGHT, fits="['nf4']"), "bfloat16 fits too"),
        (memory(*RIGHT, fits="3"), "`fits` is a list"),
        (memory(*RIGHT, fits="[['int4']]"), "`fits` is a list"),
        ("answer = [29, 14.5, 4.5]\npitfalls.practice.memory_of_7b(answer)", "a dict with the keys"),
    ],
    "new_keyword": [
        (keyword('{"device_map": "auto", "load_in_4bit": True}'), "no longer a keyword"),
        (keyword('{"device_map": "auto", "config": BitsAndBytesConfig(load_in_4bit=True)}'), "under the name"),
        (keyword('{"device_map": "auto", "quantization_config": True}'), "takes a BitsAndBytesConfig"),
        (keyword('{"device_map": "auto", "quantization_config": BitsAndBytesConfig}'), "That is the class"),
        (
            keyword('{"device_map": "auto", "quantization_config": BitsAndBytesConfig()}'),
            "Nothing in this config says 4 bits",
        ),
        (
            keyword('{"device_map": "auto", "quantization_config": BitsAndBytesConfig(load_in_8bit=True)}'),
            "Nothing in this config says 4 bits",
        ),
        (
            keyword('{"device_map": "auto", "quantization_config": BitsAndBytesConfig(load_in_4bit=True)}'),
            "in the format fp4, the default",
        ),
        (keyword(f'{{"quantization_config": {NF4}}}'), "keep it"),
        (keyword("BitsAndBytesConfig(load_in_4bit=True)"), "it needs a name"),
        (keyword("None"), "Expected a dict of keyword arguments"),
        (
            keyword(f'{{"device_map": "auto", "bits": 4, "quantization_config": {NF4}}}'),
            "from_pretrained stopped with TypeError",
        ),
    ],
}
