"""Rules about special tokens and markers: whose they are, BOS, and what ends a turn (lesson 7)."""

import functools
import re

from pitfalls.inspector.call import Call, name_row
from pitfalls.inspector.given import plain, token_ids
from pitfalls.inspector.rule import GENERATE, TEMPLATE, Said, rule
from pitfalls.inspector.vocabulary import role_id, token_id
from pitfalls.language import _

LESSON = "07_prompt_template"
BARE = 'inputs = tokenizer("Once upon a time", return_tensors="pt")  # the tokenizer adds what the model needs'
COMPLETED = 'inputs = tokenizer("The capital of France is", return_tensors="pt")  # a base model completes text'
ENDING = "output = model.generate(**inputs, max_new_tokens=200, eos_token_id=tokenizer.eos_token_id)"
FAMILIES = (  # markers of widely used chat formats
    r"<\|im_start\|>|<\|im_end\|>|<\|start_header_id\|>|<\|eot_id\|>|<start_of_turn>|<end_of_turn>|\[/?INST\]|<</?SYS>>|"
    r"<\|START_OF_TURN_TOKEN\|>|<\|(?:user|assistant|system|end)\|>|<｜(?:User|Assistant)｜>"
)
PLAIN_FAMILIES = (
    r"^### (?:Instruction|Response|Human|Assistant):|^(?:USER|ASSISTANT|Human|Assistant): |^User: (?=.*?^Assistant:)"
)
JOINED = """
text = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False) + "The answer is"
inputs = tokenizer(text, add_special_tokens=False, return_tensors="pt")  # one text, tokenized once
output = model.generate(**inputs, max_new_tokens=200)
"""
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
            told = {"row": name_row(call, n), "marker": marker}
            if call.chat:
                message = _(
                    "{row} contains {marker!r}, which means nothing to this model: its own begins {own!r}.",
                    own=call.chat.user_open,
                    **told,
                )
            else:
                message = _(
                    "{row} contains {marker!r}, which means nothing to this model: it has no chat template.", **told
                )
            return Said(message, fix=None if call.chat.template else COMPLETED)
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
            message = _(
                "{row} spells {marker!r} in several tokens: letters to the model, and no marker.",
                row=name_row(call, n),
                marker=spelled,
            )
            split = "tokenizer.split_special_tokens = False\n"
            return Said(message, fix=None if call.chat.template else split + COMPLETED)
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
        return _("This tokenizer has no chat template, like most base models': load the -Instruct checkpoint instead.")
    if call.tokenizer is None or call.chat.template:
        return None
    for n, text in enumerate(call.excerpts):
        marker = re.search(FAMILIES, text)
        if marker and token_id(call.tokenizer, marker[0]) is not None:
            message = _(
                "{row} has chat markers ({marker!r}), and this tokenizer has no chat template.",
                row=name_row(call, n),
                marker=marker[0],
            )
            return Said(message, "warning")
    return None


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
    """The prompt has a second BOS token, at its beginning or where two pieces were joined.

    The template writes one, and calling the tokenizer on its text adds another; or one was typed by hand; or the prompt
    and the beginning of an answer were tokenized apart and joined. Models never saw that in training. Only the ids
    tell: some tokenizers add none, and some formats have one before each turn of the user.
    """
    bos = role_id(call.tokenizer, "bos")
    if bos is None or (bos in call.pad_ids and call.mask is None):
        return None
    for n, ids in enumerate(call.prompts):
        told = {"row": name_row(call, n), "bos": call.tokenizer.bos_token}
        if ids[:2] == [bos, bos]:
            return Said(_("{row} begins with {bos!r} twice.", **told), fix=None if call.templated[n] else BARE)
        if seam := _seam(call, ids, bos):
            message = _(
                "{row} has {bos!r} once more, behind token {token}: pieces that were tokenized apart and joined.",
                token=seam,
                **told,
            )
            return Said(message, fix=JOINED)
    return None


def _seam(call: Call, ids: list[int], bos: int) -> int:
    """Where a BOS stands that the tokenizer put before a later piece; 0 for none. Behind the end of a text or of a
    turn it may be the format's own."""
    if not call.chat.adds_bos or bos in call.end_ids or bos not in ids[2:]:
        return 0
    ends = {*call.end_ids, *call.special_ids}
    return next((n for n in range(2, len(ids)) if ids[n] == bos and ids[n - 1] not in ends), 0)


@rule(
    "warning",
    LESSON,
    mistake="""
    text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    text = text.removeprefix(tokenizer.bos_token)
    model.generate(**tokenizer(text, add_special_tokens=False, return_tensors="pt"), max_new_tokens=5)
    """,
    fix=BARE,
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
            message = _(
                "{row} does not begin with {bos!r}, as this model's texts do.",
                row=name_row(call, n),
                bos=call.tokenizer.bos_token,
            )
            return Said(message, fix=TEMPLATE if is_chat else None)
    return None


@rule(
    "warning",
    LESSON,
    mistake="""
    inputs = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=True, return_tensors="pt")
    model.generate(**inputs, max_new_tokens=12, eos_token_id=0)  # the base model's end token
    """,
    fix=ENDING,
    source="https://github.com/oobabooga/textgen/issues/5885",
)
def end_token(call: Call) -> str | Said | None:
    """The token that ends the assistant's turn is not among those that stop generation.

    The model ends its answer, is not heard, and goes on: with the next turn, or its own answer again. The ids come from
    the model's generation_config, which a fine-tuned or mixed-up checkpoint may have from its base model.
    """
    chat, end_ids, rows = call.chat, call.end_ids, call.rows
    if call.arguments.get("stopping_criteria") or call.get("stop_strings") or _endless_on_purpose(call):
        return None
    own = set(call.own_end_ids) if call.given("eos_token_id") is not None else set()
    lost = next((token for row in rows for token in row.new_ids if token in own - set(end_ids)), None)
    if lost is not None and call.tokenizer is not None:
        name, setting = call.tokenizer.decode([lost]), f"eos_token_id={end_ids}"
        message = _(
            "The model wrote its own end token {token!r} and went on: {setting} of this call hides it.",
            token=name,
            setting=setting,
        )
        return Said(message, fix=f"{GENERATE}  # without an eos_token_id, it stops at its own")
    if not any(call.templated):
        unlimited = call.model is not None and call.token_rows and not end_ids
        message = _("No end token is set: only the length can stop this call.")
        return Said(message, "note", ENDING) if unlimited else None
    name = call.tokenizer.decode([chat.end_id]) if chat.end_id is not None else ""
    if chat.end_id is not None and chat.end_id not in end_ids:
        told = {"token": name, "ids": end_ids}
        if any(chat.end_id in row.new_ids for row in rows):
            message = _(
                "{token!r} ends a turn of this chat template, and is not among the ids that stop ({ids}), "
                "and the model wrote it and went on.",
                **told,
            )
        else:
            message = _(
                "{token!r} ends a turn of this chat template, and is not among the ids that stop ({ids}).", **told
            )
        ids = ", ".join(map(str, [*(end for end in end_ids if end >= 0), "end"]))
        call_again = f"output = model.generate(**inputs, max_new_tokens=200, eos_token_id=[{ids}])"
        return Said(message, fix=f"end = tokenizer.convert_tokens_to_ids({name!r})\n{call_again}")
    opener = chat.user_open.strip()
    if opener and any(opener in call.tokenizer.decode(row.new_ids) for row in rows):
        stop = f"stop_strings=[{opener!r}], tokenizer=tokenizer"
        message = _("The answer goes on into an invented turn of the user ({marker!r}).", marker=opener)
        return Said(message, fix=f"output = model.generate(**inputs, max_new_tokens=200, {stop})")
    return None


@rule(
    "warning",
    LESSON,
    mistake="""
    inputs = tokenizer("The capital of France is" + tokenizer.eos_token, return_tensors="pt")
    output = model.generate(**inputs, max_new_tokens=8)
    """,
    fix="""
    inputs = {name: values[:, :-1] for name, values in inputs.items()}  # without the end token
    output = model.generate(**inputs, max_new_tokens=50)
    """,
    source="https://github.com/modelscope/ms-swift/pull/351",
)
def ended_prompt(call: Call) -> str | Said | None:
    """The prompt ends in the token that ends a text, so the model begins another one.

    A tokenizer that was set up for training, with `add_eos_token=True`, writes the end token behind every text, the
    prompt too. In chats such as DialoGPT's, where it ends each turn, it belongs there.
    """
    for n in range(len(call.token_rows)):
        if ends_in_end(call, n):
            mark = call.tokenizer.decode(call.prompts[n][-1:])
            return _(
                "{row} ends in {token!r}: to the model this text is over, and another one begins.",
                row=name_row(call, n),
                token=mark,
            )
    return None


@rule(
    "warning",
    LESSON,
    mistake="""
    inputs = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=True, return_tensors="pt")
    text = tokenizer.decode(inputs["input_ids"][0], skip_special_tokens=True)
    model.generate(**tokenizer(text, return_tensors="pt"), max_new_tokens=8)
    """,
    fix=TEMPLATE,
    source="https://github.com/huggingface/trl/pull/3646",
)
def stripped_markers(call: Call) -> str | Said | None:
    """A chat whose markers were removed: only the names of the roles are left, as plain text.

    Decoding with `skip_special_tokens=True` drops the markers, and encoding that text again does not bring them back.
    The model reads words such as "user" and "assistant", and no turns.
    """
    for n, is_chat in enumerate(call.templated):
        opening = "" if is_chat else stripped_opening(call, n)
        if opening and not (spelled_marker(call, n) or foreign_marker(call, n)):
            return _(
                "{row} holds {text!r} as a turn of a chat has it, without the marker {marker!r}.",
                row=name_row(call, n),
                text=opening,
                marker=call.tokenizer.decode(sorted(call.chat.open_ids)[:1]),
            )
    return None


def ends_in_end(call: Call, n: int) -> bool:
    """Whether an end token stands behind a bare text, or behind a chat's header where its tokenizer puts one."""
    chat, ids = call.chat, call.prompts[n]
    if len(ids) < 2 or call.tokenizer is None or ids[-1] not in call.special_ids:
        return False
    added = chat.adds_eos and ids[-1] == role_id(call.tokenizer, "eos")
    if call.templated[n]:
        return added and bool(chat.header_ids) and ids[-1 - len(chat.header_ids) : -1] == chat.header_ids
    typed = ids[-1] in (chat.end_id, role_id(call.tokenizer, "eos")) if chat else False
    return added or typed


def stripped_opening(call: Call, n: int) -> str:
    """What is left of a chat's markers without their special tokens; empty where the prompt is no such text."""
    chat, text = call.chat, call.excerpts[n]
    if not chat.open_ids or call.templated[n]:
        return ""
    header, opener = (_in_letters(mark, tuple(chat.marks)) for mark in (chat.answer_open, chat.user_open))
    if not re.search(r"\w", header) or not re.search(r"\w", opener) or opener not in text:
        return ""
    begins = text.lstrip().startswith((opener, "system\n"))  # which templates with markers and role names have
    ends = text.endswith(header) or text.rstrip().endswith("\n" + header.strip())
    return opener if ends or (begins and header in text) else ""


@functools.lru_cache
def _in_letters(mark: str, specials: tuple[str, ...]) -> str:
    """A marker of the template as decoding without special tokens leaves it."""
    for special in specials:
        mark = mark.replace(special, "")
    return mark


def _endless_on_purpose(call: Call) -> bool:
    """Whether the caller said that nothing ends this call, as for a measurement of speed."""
    ids = call.arguments.get("eos_token_id", call.get("eos_token_id"))
    asked = "eos_token_id" in call.arguments or call.given("eos_token_id") is not None
    return asked and not any(end >= 0 for end in token_ids(plain(ids)))


def foreign_marker(call: Call, n: int) -> str | None:
    """The first marker of another family in a prompt."""
    text = call.excerpts[n]
    found = list(re.finditer(FAMILIES, text)) if "<" in text or "[" in text else []
    if call.chat and ("### " in text or ": " in text):
        found += re.finditer(PLAIN_FAMILIES, text, flags=re.MULTILINE | re.DOTALL)
    found += re.finditer(OPENINGS, text) if "<" in text else []
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
