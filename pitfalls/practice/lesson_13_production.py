"""The prediction of lesson 13."""

from pitfalls.practice.prediction import question

question(
    "13",
    "How many MB does the model take in 8 bits?",
    """from transformers import BitsAndBytesConfig
in_8_bits = AutoModelForCausalLM.from_pretrained(SMALL, quantization_config=BitsAndBytesConfig(load_in_8bit=True))
round(in_8_bits.get_memory_footprint() / 1e6)""",
    {
        135: "Half of it, if every weight were stored so. One table is not.",
        220: "The table of embeddings stays as it was, in 32 bits: 113 MB of it.",
        269: "Most weights do shrink.",
    },
)
