"""Rules about the form of the prompt: chat templates, their markers, BOS, and the token that ends a turn (lesson 7)."""

import re

import torch

from pitfalls.request import Request, name_row
from pitfalls.rules import rule

LESSON = "07_prompt_template"
CHAT = """
messages = [{"role": "user", "content": "What is the capital of France?"}]
inputs = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=True, return_tensors="pt")
output = model.generate(**inputs, max_new_tokens=200)
"""
FAMILIES = (  # markers of widely used chat formats
    r"<\|im_start\|>|<\|im_end\|>|<\|start_header_id\|>|<\|eot_id\|>|<start_of_turn>|<end_of_turn>|\[/?INST\]|<</?SYS>>|"
    r"<\|START_OF_TURN_TOKEN\|>|<\|(?:user|assistant|system|end)\|>|<｜(?:User|Assistant)｜>"
)
PLAIN_FAMILIES = r"^### (?:Instruction|Response):|^(?:USER|ASSISTANT|Human|Assistant): |^User: (?=.*?^Assistant:)"
OPENINGS = r"^(?:<\|begin_of_text\|>|<bos>|<s>\s*\[INST\])"  # a text's BOS, typed by hand
ASKS = re.compile(  # (?-i:[a-z]): titles have a capital there
    r"\s*(?:please,? (?-i:[a-z])|(?:can|could|would|will) you\b|you are an?\b|how (?:do|can|many|much)\b|"
    r"how to (?-i:[a-z])|help (?:me|us)\b|i need (?:help|you|your)\b|"
    r"(?:do|did|are|should|shall|may) (?:i|we|you|there)\b|"
    r"(?:what|who|why|when|where|which)(?: is| are| was| do| does| did| should| can|'s)\b|"
    r"(?:act as|add \d|choose the|count (?:from|to)|extract (?:all|the)|find (?:a|all|the)|fix (?:my|the|this)|"
    r"imagine you|let's (?:play|talk)|make (?:a|an|me)|pretend|show me|solve|think of (?:a|an))\b|"
    r"(?:answer|calculate|classify|compare|compute|convert|correct|create|define|describe|discuss|explain|generate|give|"
    r"identify|implement|list|name|outline|provide|recommend|rewrite|suggest|summari[sz]e|tell|translate|write)\s+"
    r"(?!of\b)[a-z0-9])",
    re.IGNORECASE,
)
UNFINISHED = re.compile(  # a text that is to be completed mostly stops in the middle of a sentence
    r"(?:[=>,({\[]|\b(?:an?|the|of|to|in|on|at|by|for|from|with|as|and|or|but|because|that|which|who))$", re.IGNORECASE
)
QUESTION = re.compile(r"[?？؟]\)*$")  # not behind quotation marks: someone in a story asks
ANSWER_HERE = re.compile(
    r"(?:\banswer ?:?|\n ?A ?:)$", re.IGNORECASE
)  # behind a question: how tests of several choices end


@rule(
    "warning",
    LESSON,
    mistake="""
    model.generate(**tokenizer("What is the capital of France?", return_tensors="pt"), max_new_tokens=20)
    """,
    fix=CHAT,
    source="https://github.com/declare-lab/instruct-eval/issues/27",
)
def prompt_template(request: Request):
    """A chat model gets a question as bare text, without its chat template.

    It learnt to answer between the markers of its template. Without them it continues the text, or ends at once and
    says nothing. Completing a sentence needs no template, so the rule speaks for questions and instructions only, and
    where the model ended the turn at once.
    """
    for n, is_chat in enumerate(request.templated):
        if is_chat or not request.chat or not request.prompts[n] or _foreign(request, n) or _spelled(request, n):
            continue
        text = _without_bos(request, n)
        copies = len(request.call.rows) // len(request.rows) if request.call else 1
        answers = request.call.rows[n * copies : (n + 1) * copies] if request.call else []
        if answers and all(row.stopped_by == "end-of-sequence" and not row.new_text.strip() for row in answers):
            return (
                f"{name_row(request, n)} is bare text without the chat template, and the model ended the turn at once."
            )
        if _asks(text):
            return f"{name_row(request, n)} asks a chat model without its chat template: it learnt to answer inside it."
    return None


@rule(
    "error",
    LESSON,
    mistake="""
    inputs = tokenizer.apply_chat_template(messages, return_dict=True, return_tensors="pt")
    model.generate(**inputs, max_new_tokens=8)
    """,
    fix=CHAT,
    source="https://github.com/deepseek-ai/DeepSeek-Coder/issues/83",
)
def generation_prompt(request: Request):
    """The prompt does not open the assistant's turn, so the model writes something else first.

    `add_generation_prompt=True` ends the prompt with the header of the answer. Without it the model may continue the
    user's text, or write the header itself as if it were text. A misspelt keyword of a template is ignored in silence.
    A template that writes no header (Mistral's) lacks nothing. To continue an answer that you began yourself, leave
    its turn open: `continue_final_message=True`.
    """
    for n, is_chat in enumerate(request.templated):
        state = _ending(request, n) if is_chat else "open"
        if n == 0 and is_chat and state == "open" and _answered_already(request):
            return (
                f"{name_row(request, n)} ends one assistant turn and opens another: "
                "continue_final_message=True continues the first."
            )
        if state == "closed":
            return f"{name_row(request, n)} ends in a finished assistant turn: there is nothing left to say in it."
        if state == "missing" and request.chat.ignores_header:
            return (
                f"{name_row(request, n)} does not open the assistant's turn ({request.chat.header!r}): "
                "this chat template ignores add_generation_prompt."
            )
        if state == "missing":
            return f"{name_row(request, n)} does not end in {request.chat.header!r}, which opens the answer."
    return None


@rule(
    "error",
    LESSON,
    mistake="""
    inputs = tokenizer.apply_chat_template(
        messages, add_generation_prompt=True, truncation=True, max_length=30, return_dict=True, return_tensors="pt"
    )
    model.generate(**inputs, max_new_tokens=8)
    """,
    fix="""
    tokenizer.truncation_side = "left"  # keeps the end; better still, shorten the text inside the message
    inputs = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=True, return_tensors="pt")
    """,
    source="https://github.com/EleutherAI/lm-evaluation-harness/pull/2554",
)
def truncated_prompt(request: Request):
    """The end of the prompt was cut off: the user's turn never ends, and the answer never begins.

    Tokenizers cut on the right by default, and there stand the question and the header of the answer. The model then
    goes on with the user's text.
    """
    for n, is_chat in enumerate(request.templated):
        if is_chat and _ending(request, n) == "cut":
            return (
                f"{name_row(request, n)} ends within the user's turn: {request.chat.user_close.strip()!r} is missing."
            )
    return None


@rule(
    "warning",
    LESSON,
    mistake="""
    prompt = "<|im_start|>user What is the capital of France?<|im_end|>\\n<|im_start|>assistant\\n"
    model.generate(**tokenizer(prompt, return_tensors="pt"), max_new_tokens=8)
    """,
    fix=CHAT,
    source="https://github.com/ShishirPatil/gorilla/issues/430",
)
def handwritten_template(request: Request):
    """The prompt imitates the chat template, and differs from it in line breaks or spaces.

    The model saw one exact form in training. A newline less after a marker is another sequence of tokens: answers get
    worse, and nothing says why.
    """
    chat = request.chat
    for n, is_chat in enumerate(request.templated):
        if not is_chat:
            continue
        mark = chat.user_open.lstrip()
        if n == 0 and mark.rstrip() != mark:  # one row: a batch is written by one piece of code
            text = request.text(0)
            if text.count(mark.rstrip()) > text.count(mark):
                return f"{name_row(request, n)} writes {mark.rstrip()!r} where the template writes {mark!r}."
            if _lead(mark) and mark + _lead(mark) in text:
                return (
                    f"{name_row(request, n)} goes from {mark!r} into another turn: a template applied to its own text?"
                )
        if n == 0 and _closes_badly(request):
            return f"{name_row(request, n)} does not end in {chat.user_close + chat.header!r}, as the template does."
        if _ending(request, n) == "nearly":
            return f"{name_row(request, n)} does not end exactly in {chat.header!r}, as the template does."
    return None


@rule(
    "warning",
    LESSON,
    mistake="""
    model.generate(**tokenizer("[INST] What is the capital of France? [/INST]", return_tensors="pt"), max_new_tokens=8)
    """,
    fix=CHAT,
    source="https://github.com/hiyouga/LlamaFactory/issues/3594",
)
def foreign_markers(request: Request):
    """The prompt holds the chat markers of another model family.

    To this model they are ordinary letters. It reads them as part of the text, and often writes more of them.
    """
    for n, is_chat in enumerate(request.templated):
        marker = None if is_chat else _foreign(request, n)
        if marker:
            own = f"its own begins {request.chat.user_open!r}" if request.chat else "it has no chat template"
            return f"{name_row(request, n)} contains {marker!r}, which means nothing to this model: {own}."
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
def special_tokens_as_text(request: Request):
    """Special tokens are spelled out in letters instead of being single tokens.

    A tokenizer with `split_special_tokens=True`, or one that does not know the marker, cuts `<|im_start|>` into pieces.
    The model sees letters, and answers in the same kind of letters without stopping.
    """
    for n, is_chat in enumerate(request.templated):
        spelled = None if is_chat else _spelled(request, n)
        if spelled:
            return f"{name_row(request, n)} spells {spelled!r} in several tokens: letters to the model, and no marker."
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
)
def template_on_base_model(request: Request):
    """A chat format is used with a model that has no chat template: most likely a base model.

    A base checkpoint never learnt what the markers mean. Transformers raises since 4.44 when the template is asked for;
    markers written by hand pass in silence. Load the checkpoint that ends in -Instruct, -it or -chat instead.
    """
    if isinstance(request.error, ValueError) and "chat_template is not set" in str(request.error):
        return "This tokenizer has no chat template, like most base models': load the -Instruct checkpoint instead."
    if request.tokenizer is None or request.chat.template:
        return None
    for n, text in enumerate(request.excerpts):
        marker = re.search(FAMILIES, text)
        if marker and _knows(request.tokenizer, marker[0]):
            return (
                "warning",
                f"{name_row(request, n)} has chat markers ({marker[0]!r}), and this tokenizer has no chat template.",
            )
    return None


@rule(
    "error",
    LESSON,
    mistake="""
    tokenizer.chat_template = "{{ raise_exception('System role not supported') }}"  # as Gemma 2's does
    tokenizer.apply_chat_template([{"role": "system", "content": "Be brief."}, *messages])
    """,
    fix="""
    messages = [message for message in messages if message["role"] != "system"]
    inputs = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=True, return_tensors="pt")
    """,
    source="https://github.com/sgl-project/sglang/issues/1342",
)
def system_role(request: Request):
    """The chat template refuses this chat: some know no system turn, some want user and assistant in turns.

    Put the instructions of the system turn at the beginning of the first user turn.
    """
    error = request.error
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
def double_bos(request: Request):
    """The prompt begins with two BOS tokens.

    The template writes one, and calling the tokenizer on its text adds another; or one was typed by hand. Models never
    saw that in training. Only the ids tell: some tokenizers add none.
    """
    bos = getattr(request.tokenizer, "bos_token_id", None)
    if bos is None or (bos in request.pad_ids and request.mask is None):
        return None
    for n, ids in enumerate(request.prompts):
        if ids[:2] == [bos, bos]:
            return f"{name_row(request, n)} begins with {request.tokenizer.bos_token!r} twice."
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
def missing_bos(request: Request):
    """The prompt lacks the BOS token that its tokenizer puts before every text.

    `add_special_tokens=False` is right for a text that a template made, and drops the BOS of a bare one. Models such as
    Gemma write nonsense without it, as they use the first position to rest their attention on.
    """
    bos = getattr(request.tokenizer, "bos_token_id", None)
    if bos is None:
        return None
    for n, (ids, is_chat) in enumerate(zip(request.prompts, request.templated, strict=True)):
        expected = request.chat.starts_with_bos if is_chat else request.chat.adds_bos
        if expected and ids and ids[0] != bos:
            return (
                f"{name_row(request, n)} does not begin with {request.tokenizer.bos_token!r}, as this model's texts do."
            )
    return None


@rule(
    "warning",
    LESSON,
    mistake="""
    inputs = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=True, return_tensors="pt")
    model.generate(**inputs, max_new_tokens=20, eos_token_id=0)  # the base model's end token
    """,
    fix="""
    marker = tokenizer.apply_chat_template([{"role": "user", "content": ""}, {"role": "assistant", "content": "x"}])
    print(tokenizer.convert_ids_to_tokens(marker["input_ids"])[-3:], model.generation_config.eos_token_id)
    model.generation_config.eos_token_id = [tokenizer.eos_token_id, tokenizer.convert_tokens_to_ids("<|im_end|>")]
    """,
    source="https://github.com/oobabooga/textgen/issues/5885",
)
def end_token(request: Request):
    """The token that ends the assistant's turn is not among those that stop generation.

    The model ends its answer, is not heard, and goes on: with the next turn, or its own answer again. The ids come from
    the model's generation_config, which a fine-tuned or mixed-up checkpoint may have from its base model.
    """
    chat, end_ids = request.chat, request.end_ids
    if request.arguments.get("stopping_criteria") or request.get("stop_strings"):
        return None
    rows = request.call.rows if request.call else []
    own = _ids(getattr(request.defaults, "eos_token_id", None)) if request.given("eos_token_id") is not None else set()
    lost = next((token for row in rows for token in row.new_ids if token in own - set(end_ids)), None)
    if lost is not None and request.tokenizer is not None:
        name = request.tokenizer.decode([lost])
        return f"The model wrote its own end token {name!r} and went on: eos_token_id={end_ids} of this call hides it."
    if not any(request.templated):
        unlimited = request.model is not None and request.rows and not end_ids
        return ("note", "No end token is set: only the length can stop this call.") if unlimited else None
    name = request.tokenizer.decode([chat.end_id]) if chat.end_id is not None else ""
    if chat.end_id is not None and chat.end_id not in end_ids:
        seen = ", and the model wrote it and went on" if any(chat.end_id in row.new_ids for row in rows) else ""
        return f"{name!r} ends a turn of this chat template, and is not among the ids that stop ({end_ids}){seen}."
    opener = chat.user_open.strip()
    if opener and any(opener in request.tokenizer.decode(row.new_ids) for row in rows):
        return f"The answer goes on into an invented turn of the user ({opener!r})."
    return None


def _ids(given) -> set[int]:
    return set() if given is None else set(torch.as_tensor(given).flatten().tolist())


def _ending(request: Request, n: int) -> str:
    """How a templated prompt ends: "open" for the answer, "nearly", "missing" its header, "closed" or "cut"."""
    chat, ids = request.chat, request.prompts[n]
    if chat.header_ids and ids[-len(chat.header_ids) :] == chat.header_ids:
        return "open"
    text, header, opener = request.text(n), chat.answer_open.strip(), chat.user_open.strip()
    last_header, last_user = text.rfind(header) if header else -1, text.rfind(opener) if opener else -1
    if last_header > last_user:
        after = text[last_header + len(header) :]
        if chat.answer_close.strip() and chat.answer_close.strip() in after:
            return "closed"
        exact = text[last_header:] in (chat.answer_open.lstrip(), chat.header.lstrip())
        return "open" if exact or after.strip() else "nearly"
    turn, close, answered = text[last_user + len(opener) :], chat.user_close.strip(), chat.answer_close.strip()
    if close and close not in turn:
        return "cut"
    if header:
        return "missing"
    return "closed" if close and answered and answered in turn.partition(close)[2] else "open"


def _lead(mark: str) -> str:
    """What a marker begins with: `<|im_start|>` of `<|im_start|>user`; empty where it begins with plain text."""
    found = re.match(r"<[^<>]+>", mark)
    return found[0] if found else ""


def _closes_badly(request: Request) -> bool:
    """Whether the user's turn before the header does not end as in the template; the ids tell, not the text."""
    chat, ids = request.chat, request.prompts[0]
    if not chat.close_ids or not _ends_in(ids, chat.header_ids) or _ends_in(ids, chat.close_ids):
        return False
    before, _, _ = request.text(0).rpartition(chat.answer_open.strip())
    opener = chat.user_open.strip()  # of another turn, a tool's, the end is not known
    return bool(_lead(opener)) and before.rfind(opener) == before.rfind(_lead(opener))


def _answered_already(request: Request) -> bool:
    """Whether a finished assistant turn stands right before the header."""
    chat = request.chat
    close, header = chat.answer_close.strip(), chat.answer_open.strip()
    if not close or not _lead(header) or not _ends_in(request.prompts[0], chat.header_ids):
        return False
    before, _, _ = request.text(0).rpartition(header)
    _, earlier, turn = before.rpartition(header)
    return bool(earlier) and _lead(header) not in turn and turn.count(close) == 1 and turn.rstrip().endswith(close)


def _ends_in(ids: list[int], tail: list[int]) -> bool:
    return bool(tail) and ids[-len(tail) :] == tail


def _without_bos(request: Request, n: int) -> str:
    return request.excerpts[n].removeprefix(getattr(request.tokenizer, "bos_token", None) or "")


def _asks(text: str) -> bool:
    """Whether a text reads like a question or an instruction, and not like the beginning of something."""
    end = text.rstrip()[-40:]
    return bool(
        (ASKS.match(text) and not UNFINISHED.search(end))
        or QUESTION.search(end)
        or ("?" in text and ANSWER_HERE.search(end))
    )


def _foreign(request: Request, n: int) -> str | None:
    """The first marker of another family in a prompt."""
    text = request.excerpts[n]
    found = list(re.finditer(FAMILIES, text)) if "<" in text or "[" in text else []
    if request.chat and ("### " in text or ": " in text):
        found += re.finditer(PLAIN_FAMILIES, text, flags=re.MULTILINE | re.DOTALL)
    found += re.finditer(OPENINGS, text)
    for marker in found:
        if marker[0].strip() not in request.chat.template and not _knows(request.tokenizer, marker[0]):
            return marker[0]
    return None


def _spelled(request: Request, n: int) -> str | None:
    """A special token of this tokenizer that stands in a prompt as text."""
    opener = request.chat.user_open.strip()
    for mark, token_id in request.chat.special.items():
        if mark in request.excerpts[n] and token_id not in request.prompts[n]:
            return mark
    return opener if request.chat.open_ids and opener and opener in request.excerpts[n] else None


def _knows(tokenizer, marker: str) -> bool:
    token_id = tokenizer.convert_tokens_to_ids(marker)  # an unknown one gives the id of the unknown token
    return token_id is not None and tokenizer.convert_ids_to_tokens(token_id) == marker
