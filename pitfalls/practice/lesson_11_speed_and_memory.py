"""The prediction of lesson 11."""

from pitfalls.practice.prediction import question

question(
    "11",
    "How many tokens does the model read to write these 10?",
    """inputs = tokenizer("A sequence of numbers: 1, 2", return_tensors="pt").to(model.device)
read = []
hook = model.get_input_embeddings().register_forward_hook(lambda layer, given, out: read.append(given[0].shape[1]))
model.generate(**inputs, max_new_tokens=10)
hook.remove()
sum(read)""",
    {
        10: "The prompt alone gives the first new token only. For the second the model must also have read the first.",
        19: "The prompt once, then each new token once; the last one is written and never read.",
        145: "That would be the whole text again for each new token. There is something that spares it.",
    },
)
