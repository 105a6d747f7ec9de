"""Rules about the form of a chat: its template, and how the prompt ends (lesson 7)."""

import re

from pitfalls.inspector.call import Call, name_row
from pitfalls.inspector.rule import Said, rule
from pitfalls.inspector.rules.markers import TEMPLATE, foreign_marker, spelled_marker

LESSON = "07_prompt_template"
CHAT = 'messages = [{"role": "user", "content": "What is the capital of France?"}]' + TEMPLATE
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
def prompt_template(call: Call) -> str | Said | None:
    """A chat model gets a question as bare text, without its chat template.

    It learnt to answer between the markers of its template. Without them it continues the text, or ends at once and
    says nothing. Completing a sentence needs no template, so the rule speaks for questions and instructions only, and
    where the model ended the turn at once.
    """
    for n, is_chat in enumerate(call.templated):
        if is_chat or not call.chat or not call.prompts[n] or foreign_marker(call, n) or spelled_marker(call, n):
            continue
        text = _without_bos(call, n)
        copies = len(call.rows) // len(call.token_rows)
        answers = call.rows[n * copies : (n + 1) * copies]
        if answers and all(row.stopped_by == "end-of-sequence" and not row.new_text.strip() for row in answers):
            return f"{name_row(call, n)} is bare text without the chat template, and the model ended the turn at once."
        if _asks(text):
            return f"{name_row(call, n)} asks a chat model without its chat template: it learnt to answer inside it."
    return None


@rule(
    "error",
    LESSON,
    mistake="""
    inputs = tokenizer.apply_chat_template(messages, return_dict=True, return_tensors="pt")
    model.generate(**inputs, max_new_tokens=8)
    """,
    fix=TEMPLATE,
    source="https://github.com/deepseek-ai/DeepSeek-Coder/issues/83",
)
def generation_prompt(call: Call) -> str | Said | None:
    """The prompt does not open the assistant's turn, so the model writes something else first.

    `add_generation_prompt=True` ends the prompt with the header of the answer. Without it the model may continue the
    user's text, or write the header itself as if it were text. A misspelt keyword of a template is ignored in silence.
    A template that writes no header (Mistral's) lacks nothing. To continue an answer that you began yourself, leave
    its turn open: `continue_final_message=True`.
    """
    for n, is_chat in enumerate(call.templated):
        state = _ending(call, n) if is_chat else "open"
        if n == 0 and is_chat and state == "open" and _answered_already(call):
            return (
                f"{name_row(call, n)} ends one assistant turn and opens another: "
                "continue_final_message=True continues the first."
            )
        if state == "closed":
            return f"{name_row(call, n)} ends in a finished assistant turn: there is nothing left to say in it."
        if state == "missing" and call.chat.ignores_header:
            return (
                f"{name_row(call, n)} does not open the assistant's turn ({call.chat.header!r}): "
                "this chat template ignores add_generation_prompt."
            )
        if state == "missing":
            return f"{name_row(call, n)} does not end in {call.chat.header!r}, which opens the answer."
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
def truncated_prompt(call: Call) -> str | Said | None:
    """The end of the prompt was cut off: the user's turn never ends, and the answer never begins.

    Tokenizers cut on the right by default, and there stand the question and the header of the answer. The model then
    goes on with the user's text.
    """
    for n, is_chat in enumerate(call.templated):
        if is_chat and _ending(call, n) == "cut":
            return f"{name_row(call, n)} ends within the user's turn: {call.chat.user_close.strip()!r} is missing."
    return None


@rule(
    "warning",
    LESSON,
    mistake="""
    prompt = "<|im_start|>user What is the capital of France?<|im_end|>\\n<|im_start|>assistant\\n"
    model.generate(**tokenizer(prompt, return_tensors="pt"), max_new_tokens=8)
    """,
    fix=TEMPLATE,
    source="https://github.com/ShishirPatil/gorilla/issues/430",
)
def handwritten_template(call: Call) -> str | Said | None:
    """The prompt imitates the chat template, and differs from it in line breaks or spaces.

    The model saw one exact form in training. A newline less after a marker is another sequence of tokens: answers get
    worse, and nothing says why.
    """
    chat = call.chat
    for n, is_chat in enumerate(call.templated):
        if not is_chat:
            continue
        mark = chat.user_open.lstrip()
        if n == 0 and mark.rstrip() != mark:  # one row: a batch is written by one piece of code
            text = call.text(0)
            if text.count(mark.rstrip()) > text.count(mark):
                return f"{name_row(call, n)} writes {mark.rstrip()!r} where the template writes {mark!r}."
            if _lead(mark) and mark + _lead(mark) in text:
                return f"{name_row(call, n)} goes from {mark!r} into another turn: a template applied to its own text?"
        if n == 0 and _closes_badly(call):
            return f"{name_row(call, n)} does not end in {chat.user_close + chat.header!r}, as the template does."
        if _ending(call, n) == "nearly":
            return f"{name_row(call, n)} does not end exactly in {chat.header!r}, as the template does."
    return None


def _ending(call: Call, n: int) -> str:
    """How a templated prompt ends: "open" for the answer, "nearly", "missing" its header, "closed" or "cut"."""
    chat, ids = call.chat, call.prompts[n]
    if chat.header_ids and ids[-len(chat.header_ids) :] == chat.header_ids:
        return "open"
    text, header, opener = call.text(n), chat.answer_open.strip(), chat.user_open.strip()
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


def _closes_badly(call: Call) -> bool:
    """Whether the user's turn before the header does not end as in the template; the ids tell, not the text."""
    chat, ids = call.chat, call.prompts[0]
    if not chat.close_ids or not _ends_in(ids, chat.header_ids) or _ends_in(ids, chat.close_ids):
        return False
    before, _, _ = call.text(0).rpartition(chat.answer_open.strip())
    opener = chat.user_open.strip()  # of another turn, a tool's, the end is not known
    return bool(_lead(opener)) and before.rfind(opener) == before.rfind(_lead(opener))


def _answered_already(call: Call) -> bool:
    """Whether a finished assistant turn stands right before the header."""
    chat = call.chat
    close, header = chat.answer_close.strip(), chat.answer_open.strip()
    if not close or not _lead(header) or not _ends_in(call.prompts[0], chat.header_ids):
        return False
    before, _, _ = call.text(0).rpartition(header)
    _, earlier, turn = before.rpartition(header)
    return bool(earlier) and _lead(header) not in turn and turn.count(close) == 1 and turn.rstrip().endswith(close)


def _ends_in(ids: list[int], tail: list[int]) -> bool:
    return bool(tail) and ids[-len(tail) :] == tail


def _without_bos(call: Call, n: int) -> str:
    return call.excerpts[n].removeprefix(getattr(call.tokenizer, "bos_token", None) or "")


def _asks(text: str) -> bool:
    """Whether a text reads like a question or an instruction, and not like the beginning of something."""
    end = text.rstrip()[-40:]
    here = ANSWER_HERE.search(end)
    tested = here and "?" in text and text.count(here[0].strip()) == 1  # where there are more, examples precede
    return bool((ASKS.match(text) and not UNFINISHED.search(end)) or QUESTION.search(end) or tested)
