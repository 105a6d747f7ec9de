"""Wrong answers in lesson 1, and a piece of the hint that each must get."""

MEMORY = """
mistral = 7.24e9
answer = {{"float32": {}, "bfloat16": {}, "8-bit": {}, "4-bit": {}, "fits": {}}}
pitfalls.practice.memory_of_7b(answer)"""


def memory(*sizes: str, fits: str = "['bfloat16', '8-bit', '4-bit']") -> str:
    return MEMORY.format(*sizes, fits)


RIGHT = ["mistral * 4 / 1e9", "mistral * 2 / 1e9", "mistral / 1e9", "mistral / 2 / 1e9"]


def keyword(dictionary: str) -> str:
    return f"from transformers import BitsAndBytesConfig\nanswer = {dictionary}\npitfalls.practice.new_keyword(answer)"


WRONG = {
    "memory_of_7b": [
        (memory("mistral * 32 / 1e9", "mistral * 16 / 1e9", "mistral * 8 / 1e9", "mistral * 4 / 1e9"), "gigabits"),
        (memory(*RIGHT[:2], "mistral * 8 / 1e9", RIGHT[3]), "8 bits were taken for 8 bytes"),
        (memory(*RIGHT[:3], "mistral * 4 / 1e9"), "4 bits were taken for 4 bytes"),
        (memory(*RIGHT[:3], "mistral / 1e9"), "Two weights of 4 bits share a byte"),
        (memory(*(size.replace("1e9", "2**30") for size in RIGHT)), "that is GiB"),
        (memory("mistral * 4", "mistral * 2", "mistral", "mistral / 2"), "that is bytes"),
        (memory("mistral / 1e9", *RIGHT[1:]), "multiply the weights by the bytes per weight"),
        (memory("None", *RIGHT[1:]), "expected a number"),
        (memory(*RIGHT, fits="['float32', 'bfloat16', '8-bit', '4-bit']"), "float32 doesn't fit: it needs 29.0 GB"),
        (memory(*RIGHT, fits="['8-bit', '4-bit']"), "bfloat16 fits too"),
        (memory(*RIGHT, fits="3"), "`fits` is a list"),
        (memory(*RIGHT, fits="[['int4']]"), "`fits` is a list"),
        ("answer = [29, 14.5, 7.2, 3.6]\npitfalls.practice.memory_of_7b(answer)", "a dict with the keys"),
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
        (keyword('{"quantization_config": BitsAndBytesConfig(load_in_4bit=True)}'), "keep it"),
        (keyword("BitsAndBytesConfig(load_in_4bit=True)"), "it needs a name"),
        (keyword("None"), "Expected a dict of keyword arguments"),
        (
            keyword('{"device_map": "auto", "bits": 4, "quantization_config": BitsAndBytesConfig(load_in_4bit=True)}'),
            "from_pretrained stopped with TypeError",
        ),
    ],
}
