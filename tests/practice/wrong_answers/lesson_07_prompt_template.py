"""Of lesson 7."""

TEMPLATE = """
def answer(messages):
    default = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"
    if {when}:
        messages = [{{"role": "system", "content": default}}, *messages]
    return "".join(f"<|im_start|>{{m['role']}}\\n{{m['content']}}<|im_end|>{after}" for m in messages) + "{header}"
pitfalls.practice.template_by_hand(answer, tokenizer)"""

NOTHING = """
def end(prompt, place=-1, **template):
    if template:
        chat = [{{"role": "user", "content": prompt}}]
        inputs = tokenizer.apply_chat_template(chat, return_dict=True, return_tensors="pt", **template)
    else:
        inputs = tokenizer(prompt, return_tensors="pt")
    with torch.no_grad():
        return model(**inputs.to(model.device)).logits[0, place].softmax(-1)[tokenizer.eos_token_id]
q = "What is the capital of Spain?"
yes, no = {{"add_generation_prompt": True}}, {{"add_generation_prompt": False}}
turn = "a bare question looks like a finished turn"
answer = {{"raw text": {}, "template": {}, "cause": {}}}
pitfalls.practice.why_nothing(answer, model, tokenizer)"""

TALK = """
def ask(model, tokenizer, messages, prompt=True, start=None, special=True):
    inputs = tokenizer.apply_chat_template(
        messages, add_generation_prompt=prompt, return_dict=True, return_tensors="pt").to(model.device)
    ids = model.generate(**inputs, max_new_tokens=16)[0]
    return tokenizer.decode(ids[inputs["input_ids"].shape[1] if start is None else start:], skip_special_tokens=special)

def user(text):
    return {"role": "user", "content": text}

def bot(text):
    return {"role": "assistant", "content": text}

def answer(model, tokenizer, first, second):
    one = bot(ask(model, tokenizer, [user(first)]))
    two = bot(ask(model, tokenizer, [user(first), one, user(second)]))
    return [user(first), one, user(second), two]
pitfalls.practice.two_turns(answer, model, tokenizer)"""


def template(hint, when="messages[0]['role'] != 'system'", after="\\n", header="<|im_start|>assistant\\n"):
    return TEMPLATE.format(when=when, after=after, header=header), hint


def nothing(hint, raw="end(q)", templated="end(q, **yes)", cause="turn") -> tuple[str, str]:
    return NOTHING.format(raw, templated, cause), hint


def talk(hint, old, new) -> tuple[str, str]:
    assert old in TALK
    return TALK.replace(old, new), hint


WRONG = {
    "template_by_hand": [
        template("a new line begins", after=""),
        template("The generation prompt is missing", header=""),
        template("writes one of its own", when="False"),
        template("here there are two", when="True"),
        template("Only white space", header="<|im_start|>assistant"),
        template("Came: 'bot", header="<|im_start|>bot\\n"),
        (template("")[0].replace("return ", "return len(").replace("\npit", ")\npit"), "Return the text, a str"),
        (
            "def answer(messages):\n    return messages[0]['text']\n"
            "pitfalls.practice.template_by_hand(answer, tokenizer)",
            "Your function stopped with KeyError",
        ),
    ],
    "why_nothing": [
        nothing("look at the last one", raw="end(q, place=0)"),
        nothing("the two numbers are swapped", raw="end(q, **yes)", templated="end(q)"),
        nothing("the two numbers are swapped", templated="end(q)"),
        nothing("add_generation_prompt=True is missing", templated="end(q, **no)"),
        nothing("is a percentage", raw="100 * end(q)"),
        nothing("use softmax", raw="-3.5"),
        nothing("expected the end token's probability", raw="0.5"),
        nothing("expected one number", raw="[1, 2]"),
        nothing("A larger budget changes nothing", cause="'the budget was too small'"),
        nothing("Through the template it does answer", cause="'the model does not know it'"),
        nothing("no answer to cut off", cause="'the answer was cut off'"),
        nothing("Choose a cause of these four", cause="'bad luck'"),
    ],
    "two_turns": [
        talk("didn't see the first question", "[user(first), one, user(second)])", "[user(second)])"),
        talk("didn't see the first answer", "[user(first), one, user(second)])", "[user(first), user(second)])"),
        talk("decode only the ids after it", "start=None", "start=0"),
        talk("The role of an answer is 'assistant'", '"role": "assistant"', '"role": "user"'),
        talk("decode with skip_special_tokens=True", "special=True", "special=False"),
        talk("The assistant's turn isn't opened", "user(second)])", "user(second)], prompt=False)"),
        talk("messages with these roles", "return [user(first), one, user(second), two]", "return [user(second), two]"),
        talk("Return a list of messages", "return [user(first), one, user(second), two]", "return two['content']"),
        talk(
            "Two answers need two calls",
            "two = bot(ask(model, tokenizer, [user(first), one, user(second)]))",
            "two = bot('Many.')",
        ),
        talk("the two questions", "return [user(first)", "return [user('Hello')"),
    ],
}
