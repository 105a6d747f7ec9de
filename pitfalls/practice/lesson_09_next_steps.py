"""The prediction of lesson 9."""

from pitfalls.practice.prediction import question

question(
    "09",
    "What does contrastive search give?",
    """def outcome(**settings):
    inputs = tokenizer("Once upon a time there was a small robot.", return_tensors="pt").to(model.device)
    greedy = model.generate(**inputs, max_new_tokens=5)
    try:
        ids = model.generate(**inputs, max_new_tokens=5, **settings)
    except ValueError:
        return "an error"
    return "the greedy text" if torch.equal(ids, greedy) else "another text"
outcome(penalty_alpha=0.6, top_k=4)""",
    {
        "another text": "So it was in version 4. The library has become smaller since.",
        "the greedy text": "Some settings without effect are passed over, as in lesson 5. This one is not.",
        "an error": "It has moved out of the library. You will see what the error says, and what else there is.",
    },
)
