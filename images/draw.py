"""Draws the pictures of README.md from the embedded model: `make images`."""

from pathlib import Path

from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging

import pitfalls

HERE = Path(__file__).resolve().parent


def main() -> None:
    logging.disable_progress_bar()
    folder = pitfalls.fetch_model()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder)
    inputs = tokenizer("I am a cat.", return_tensors="pt")
    call = pitfalls.record(model, tokenizer, inputs, max_new_tokens=8)
    title = f"“I am a cat.” continued greedily: {call.new_text.strip()!r}"
    figure = pitfalls.pictures.generation(call, title=title)
    figure.savefig(HERE / "generation.png", dpi=120, facecolor="white", metadata={"Software": None})


if __name__ == "__main__":
    main()
