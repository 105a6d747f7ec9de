"""The prediction of lesson 10."""

from pitfalls.practice.prediction import question

question(
    "10",
    "How does the answer begin?",
    """rule = 'Answer with JSON only, such as {"city": "Berlin", "country": "Germany"}.'
chat = [{"role": "system", "content": rule}, {"role": "user", "content": "Where is Paris?"}]
ids = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_dict=True, return_tensors="pt")
ids = ids.to(model.device)
tokenizer.decode(model.generate(**ids, max_new_tokens=4)[0, ids["input_ids"].shape[1] :])""",
    {
        '{"city": "': "The instruction is clear to you. For the model it is a text like any other, and nothing "
        "holds it to it.",
        "Paris is the capital": "An instruction only makes some tokens likelier. For this small model that is not "
        "enough.",
    },
)
