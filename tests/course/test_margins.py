"""Answers that lessons quote stand on no near tie: another processor, format or server must not turn them.

Lesson 13 shows what happens otherwise, with the capital of France.
"""

import pytest
import torch

from tools.lessons import LESSONS, code_cells, read

WIDE = 0.3  # in logits, at every step of what is quoted
FRANCE = "What is the capital of France?"
CHATS = {  # question: the whole greedy answer
    "What is the capital of Japan?": "The capital of Japan is Tokyo.",
    "What is the capital of Germany?": "The capital of Germany is Berlin.",
    "What is the capital of Egypt?": "The capital of Egypt is Cairo.",
}
TEXTS = {  # raw text: how it continues
    "The capital of Japan is": " Tokyo.\n\nThe",
    "The capital of France is": " Paris.\n\nThe",
    "What is the capital of Japan?": "<|im_end|>",
    "1, 2, 3": ", 4, 5, 6, 7",
    "A, B, C, D, E": ", F, G, H",
}


def margins(model, tokenizer, ids: torch.Tensor, answer: str) -> list[float]:
    """At each token of the greedy answer, how far its logit is above the second one's; what is said is checked."""
    wanted = tokenizer(answer, return_tensors="pt").input_ids
    with torch.no_grad():
        logits = model(torch.cat([ids, wanted], dim=1)).logits[0, ids.shape[1] - 1 : -1]  # (answer, vocabulary)
    assert logits.argmax(-1).tolist() == wanted[0].tolist(), tokenizer.decode(logits.argmax(-1))
    best = logits.topk(2).values
    return (best[:, 0] - best[:, 1]).tolist()


@pytest.mark.parametrize("question", CHATS)
def test_a_chat_is_answered_with_wide_margins_up_to_the_end_of_the_turn(question, model, tokenizer):
    chat = [{"role": "user", "content": question}]
    ids = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_tensors="pt")["input_ids"]
    assert min(margins(model, tokenizer, ids, CHATS[question] + tokenizer.eos_token)) >= WIDE


@pytest.mark.parametrize("text", TEXTS)
def test_a_text_is_continued_with_wide_margins(text, model, tokenizer):
    ids = tokenizer(text, return_tensors="pt").input_ids
    assert min(margins(model, tokenizer, ids, TEXTS[text])) >= WIDE


def test_the_question_about_france_stands_on_a_near_tie(model, tokenizer):
    chat = [{"role": "user", "content": FRANCE}]
    ids = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_tensors="pt")["input_ids"]
    found = margins(model, tokenizer, ids, "The capital of France is Paris.")
    assert found[0] < 0.1 and min(found) == found[0]


@pytest.mark.parametrize("path", [path for path in LESSONS if path.stem[:2] != "13"], ids=lambda path: path.stem)
def test_only_lesson_13_asks_about_france(path):
    assert not [cell.source for cell in code_cells(read(path)) if FRANCE in cell.source]
