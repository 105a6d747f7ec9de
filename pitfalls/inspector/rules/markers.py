"""Rules about special tokens and markers: whose they are, BOS, and what ends a turn (lesson 7)."""

import re

from pitfalls.inspector.call import Call, name_row
from pitfalls.inspector.rule import Said, rule
from pitfalls.inspector.vocabulary import role_id, token_id

LESSON = "07_prompt_template"
TEMPLATE = """
inputs = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=True, return_tensors="pt")
output = model.generate(**inputs, max_new_tokens=200)
"""
FAMILIES = (  # markers of widely used chat formats
    r"<\|im_start\|>|<\|im_end\|>|<\|start_header_id\|>|<\|eot_id\|>|<start_of_turn>|<end_of_turn>|\[/?INST\]|<</?SYS>>|"
    r"<\|START_OF_TURN_TOKEN\|>|<\|(?:user|assistant|system|end)\|>|<｜(?:User|Assistant)｜>"
)
PLAIN_FAMILIES = r"^### (?:Instruction|Response):|^(?:USER|ASSISTANT|Human|Assistant): |^User: (?=.*?^Assistant:)"
OPENINGS = r"^(?:<\|begin_of_text\|>|<bos>|<s>\s*\[INST\])"  # a text's BOS, typed by hand


@rule(
    "warning",
    LESSON,
    mistake="""
    model.generate(**tokenizer("[INST] What is the capital of France? [/INST]", return_tensors="pt"), max_new_tokens=8)
    """,
    fix=TEMPLATE,
    source="https://github.com/hiyouga/LlamaFactory/issues/3594",
)
def foreign_markers(call: Call) -> str | Said | None:
    """The prompt holds the chat markers of another model family.

    To this model they are ordinary letters. It reads them as part of the text, and often writes more of them.
    """
    for n, is_chat in enumerate(call.templated):
        marker = None if is_chat else foreign_marker(call, n)
        if marker:
            own = f"its own begins {call.chat.user_open!r}" if call.chat else "it has no chat template"
            return f"{name_row(call, n)} contains {marker!r}, which means nothing to this model: {own}."
    return None


@rule(
    "warning",
    LESSON,
    mistake="""
    tokenizer.split_special_tokens = True
    text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    model.generate(**tokenizer(text, return_tensors="pt"), max_new_tokens=8)
    """,
    fix="""
    tokenizer.split_special_tokens = False
    inputs = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=True, return_tensors="pt")
    """,
    source="https://github.com/ggml-org/llama.cpp/issues/6551",
)
def special_tokens_as_text(call: Call) -> str | Said | None:
    """Special tokens are spelled out in letters instead of being single tokens.

    A tokenizer with `split_special_tokens=True`, or one that does not know the marker, cuts `<|im_start|>` into pieces.
    The model sees letters, and answers in the same kind of letters without stopping.
    """
    for n, is_chat in enumerate(call.templated):
        spelled = None if is_chat else spelled_marker(call, n)
        if spelled:
            return f"{name_row(call, n)} spells {spelled!r} in several tokens: letters to the model, and no marker."
    return None


@rule(
    "error",
    LESSON,
    mistake="""
    tokenizer.chat_template = None  # as in base models
    tokenizer.apply_chat_template(messages, add_generation_prompt=True)
    """,
    fix='inputs = tokenizer("Once upon a time", return_tensors="pt")  # a base model completes text',
    source="https://github.com/sgl-project/sglang/issues/3385",
    explains="chat_template is not set",
)
def template_on_base_model(call: Call) -> str | Said | None:
    """A chat format is used with a model that has no chat template: most likely a base model.

    A base checkpoint never learnt what the markers mean. Transformers raises since 4.44 when the template is asked for;
    markers written by hand pass in silence. Load the checkpoint that ends in -Instruct, -it or -chat instead.
    """
    if isinstance(call.error, ValueError) and "chat_template is not set" in str(call.error):
        return "This tokenizer has no chat template, like most base models': load the -Instruct checkpoint instead."
    if call.tokenizer is None or call.chat.template:
        return None
    for n, text in enumerate(call.excerpts):
        marker = re.search(FAMILIES, text)
        if marker and token_id(call.tokenizer, marker[0]) is not None:
            return Said(
                f"{name_row(call, n)} has chat markers ({marker[0]!r}), and this tokenizer has no chat template.",
                "warning",
            )
    return None


@rule(
    "error",
    LESSON,
    mistake="""
    refuse = "{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    tokenizer.chat_template = refuse + tokenizer.chat_template  # as Gemma 2's does
    tokenizer.apply_chat_template([{"role": "system", "content": "Be brief."}, *messages])
    """,
    fix="""
    messages = [message for message in messages if message["role"] != "system"]
    inputs = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=True, return_tensors="pt")
    """,
    source="https://github.com/sgl-project/sglang/issues/1342",
    explains="TemplateError",
)
def system_role(call: Call) -> str | Said | None:
    """The chat template refuses this chat: some know no system turn, some want user and assistant in turns.

    Put the instructions of the system turn at the beginning of the first user turn.
    """
    error = call.error
    if type(error).__name__ != "TemplateError":
        return None
    return f"The chat template refuses these messages: {error}. Put the system text into the first user turn."


@rule(
    "warning",
    LESSON,
    mistake="""
    model.generate(**tokenizer(2 * tokenizer.bos_token + "Once upon a time", return_tensors="pt"), max_new_tokens=5)
    """,
    fix="""
    text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    inputs = tokenizer(text, add_special_tokens=False, return_tensors="pt")
    """,
    source="https://github.com/vllm-project/vllm/pull/27515",
)
def double_bos(call: Call) -> str | Said | None:
    """The prompt begins with two BOS tokens.

    The template writes one, and calling the tokenizer on its text adds another; or one was typed by hand. Models never
    saw that in training. Only the ids tell: some tokenizers add none.
    """
    bos = role_id(call.tokenizer, "bos")
    if bos is None or (bos in call.pad_ids and call.mask is None):
        return None
    for n, ids in enumerate(call.prompts):
        if ids[:2] == [bos, bos]:
            return f"{name_row(call, n)} begins with {call.tokenizer.bos_token!r} twice."
    return None


@rule(
    "warning",
    LESSON,
    mistake="""
    text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    text = text.removeprefix(tokenizer.bos_token)
    model.generate(**tokenizer(text, add_special_tokens=False, return_tensors="pt"), max_new_tokens=5)
    """,
    fix='inputs = tokenizer("Once upon a time", return_tensors="pt")  # adds what the model needs',
    source="https://arxiv.org/abs/2309.17453",
)
def missing_bos(call: Call) -> str | Said | None:
    """The prompt lacks the BOS token that its tokenizer puts before every text.

    `add_special_tokens=False` is right for a text that a template made, and drops the BOS of a bare one. Models such as
    Gemma write nonsense without it, as they use the first position to rest their attention on.
    """
    bos = role_id(call.tokenizer, "bos")
    if bos is None:
        return None
    for n, (ids, is_chat) in enumerate(zip(call.prompts, call.templated, strict=True)):
        expected = call.chat.starts_with_bos if is_chat else call.chat.adds_bos
        if expected and ids and ids[0] != bos:
            return f"{name_row(call, n)} does not begin with {call.tokenizer.bos_token!r}, as this model's texts do."
    return None


@rule(
    "warning",
    LESSON,
    mistake="""
    inputs = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=True, return_tensors="pt")
    model.generate(**inputs, max_new_tokens=12, eos_token_id=0)  # the base model's end token
    """,
    fix="""
    end = tokenizer.convert_tokens_to_ids("<|im_end|>")  # what your chat template writes behind an answer
    output = model.generate(**inputs, max_new_tokens=200, eos_token_id=[tokenizer.eos_token_id, end])
    """,
    source="https://github.com/oobabooga/textgen/issues/5885",
)
def end_token(call: Call) -> str | Said | None:
    """The token that ends the assistant's turn is not among those that stop generation.

    The model ends its answer, is not heard, and goes on: with the next turn, or its own answer again. The ids come from
    the model's generation_config, which a fine-tuned or mixed-up checkpoint may have from its base model.
    """
    chat, end_ids = call.chat, call.end_ids
    if call.arguments.get("stopping_criteria") or call.get("stop_strings"):
        return None
    rows = call.rows
    own = set(call.own_end_ids) if call.given("eos_token_id") is not None else set()
    lost = next((token for row in rows for token in row.new_ids if token in own - set(end_ids)), None)
    if lost is not None and call.tokenizer is not None:
        name = call.tokenizer.decode([lost])
        return f"The model wrote its own end token {name!r} and went on: eos_token_id={end_ids} of this call hides it."
    if not any(call.templated):
        unlimited = call.model is not None and call.token_rows and not end_ids
        return Said("No end token is set: only the length can stop this call.", "note") if unlimited else None
    name = call.tokenizer.decode([chat.end_id]) if chat.end_id is not None else ""
    if chat.end_id is not None and chat.end_id not in end_ids:
        seen = ", and the model wrote it and went on" if any(chat.end_id in row.new_ids for row in rows) else ""
        return f"{name!r} ends a turn of this chat template, and is not among the ids that stop ({end_ids}){seen}."
    opener = chat.user_open.strip()
    if opener and any(opener in call.tokenizer.decode(row.new_ids) for row in rows):
        return f"The answer goes on into an invented turn of the user ({opener!r})."
    return None


def foreign_marker(call: Call, n: int) -> str | None:
    """The first marker of another family in a prompt."""
    text = call.excerpts[n]
    found = list(re.finditer(FAMILIES, text)) if "<" in text or "[" in text else []
    if call.chat and ("### " in text or ": " in text):
        found += re.finditer(PLAIN_FAMILIES, text, flags=re.MULTILINE | re.DOTALL)
    found += re.finditer(OPENINGS, text)
    for marker in found:
        if marker[0].strip() not in call.chat.template and token_id(call.tokenizer, marker[0]) is None:
            return marker[0]
    return None


def spelled_marker(call: Call, n: int) -> str | None:
    """A special token of this tokenizer that stands in a prompt as text."""
    opener = call.chat.user_open.strip()
    for mark, special in call.chat.special.items():
        if mark in call.excerpts[n] and special not in call.prompts[n]:
            return mark
    return opener if call.chat.open_ids and opener and opener in call.excerpts[n] else None
