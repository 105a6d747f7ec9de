"""What lesson 1 says of the whole model in fp4, and doesn't load again."""

import re

import torch
from transformers import AutoModelForCausalLM, BitsAndBytesConfig

import pitfalls
from tools.lessons import LESSONS, read


def test_all_tables_in_fp4_almost_double_the_perplexity(tokenizer):
    lesson = "\n".join(cell.source for cell in read(LESSONS[0]).cells)
    said = re.search(r"tables of this model in `fp4`, the perplexity was ([\d.]+)", lesson)
    text = "".join(re.findall(r'^    "(.+)"$', re.search(r"^text = \((.+?)^\)", lesson, re.S | re.M)[1], re.M))
    ids = tokenizer(text, return_tensors="pt").input_ids
    bare = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_compute_dtype=torch.float32)
    model = AutoModelForCausalLM.from_pretrained(pitfalls.fetch_model(), quantization_config=bare)
    with torch.no_grad():
        assert f"{model(ids, labels=ids).loss.exp():.1f}" == said[1]
