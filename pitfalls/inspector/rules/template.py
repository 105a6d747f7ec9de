"""Rules about the form of a chat: its template, and how the prompt ends (lesson 7)."""

import re
from typing import Any

from pitfalls.inspector.asking import asks
from pitfalls.inspector.call import Call, name_row
from pitfalls.inspector.rule import TEMPLATE, Said, rule
from pitfalls.inspector.rules.markers import ends_in_end, foreign_marker, spelled_marker, stripped_opening
from pitfalls.inspector.vocabulary import without_bos
from pitfalls.language import _, ngettext

LESSON = "07_prompt_template"
CHAT = 'messages = [{"role": "user", "content": "What is the capital of France?"}]' + TEMPLATE
TOKENIZED = """inputs = tokenizer(text, add_special_tokens=False, return_tensors="pt")
output = model.generate(**inputs, max_new_tokens=200)"""
CONTINUED = """
inputs = tokenizer.apply_chat_template(messages, continue_final_message=True, return_dict=True, return_tensors="pt")
output = model.generate(**inputs, max_new_tokens=200)
"""
UNANSWERED = """if messages[-1]["role"] == "assistant":
    messages = messages[:-1]  # it is answered already; to go on with a begun answer: continue_final_message=True
""" + TEMPLATE.lstrip()
FINISHED = 0.1  # of the end of a turn as the first token: texts to go on with measured up to 0.07, questions from 0.15


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
    says nothing. Completing a text needs no template. After the call the model itself tells which it was: where it
    ends the turn at once, or gives that at least 10 %, it takes the text for a message that is finished. The text alone
    proves little: a question is a warning, and what only looks like an instruction is a note.
    """
    bare = [n for n, is_chat in enumerate(call.templated) if not is_chat and call.chat and _is_plain(call, n)]
    for n in bare:
        if taken := _taken_for_finished(call, n):
            return taken
    seen = [(n, asks(text), text) for n in bare for text in [without_bos(call.tokenizer, call.excerpts[n])]]
    for n, kind, text in seen:
        if kind == "a question" and not re.search(r"[.!?。？！]\s*\w|\n", text.strip()):
            return _(
                "{row} asks a chat model without its chat template: it learnt to answer inside it.",
                row=name_row(call, n),
            )
    for n, kind, _text in seen:
        if kind and (kind != "a test" or call.budget > 1):  # of one token, mostly the scores are read
            message = _(
                "{row} looks like {kind} for a chat model, without its chat template. It learnt to answer inside it.",
                row=name_row(call, n),
                kind=_(kind),
            )
            return Said(message, "note")
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
    header = call.chat.header
    for n, is_chat in enumerate(call.templated):
        row, state = name_row(call, n), _ending(call, n) if is_chat and not ends_in_end(call, n) else "open"
        if n == 0 and is_chat and state == "open" and _answered_already(call) and not _turn_within(call):
            message = _(
                "{row} ends one assistant turn and opens another: continue_final_message=True continues the first.",
                row=row,
            )
            return Said(message, fix=CONTINUED)
        if state == "closed":
            message = _("{row} ends in a finished assistant turn: there is nothing left to say in it.", row=row)
            return Said(message, fix=UNANSWERED)
        if state == "missing" and call.chat.ignores_header:
            message = _(
                "{row} does not open the assistant's turn ({header!r}): this chat template ignores "
                "add_generation_prompt.",
                row=row,
                header=header,
            )
            fix = f"text = tokenizer.apply_chat_template(messages, tokenize=False) + {header!r}\n" + TOKENIZED
            return Said(message, fix=fix)
        if state == "missing":
            return _("{row} does not end in {header!r}, which opens the answer.", row=row, header=header)
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
    goes on with the user's text. Some want just that, to make up questions, so an open turn alone is no mistake: the
    rule speaks where the tokenizer was told to cut at this length, and warns where the turn's text is complete.
    """
    for n, is_chat in enumerate(call.templated):
        if not is_chat or _ending(call, n) != "cut":
            continue
        told = {"row": name_row(call, n), "marker": call.chat.user_close.strip()}
        if why := _why_cut(call, n):
            return _("{row} ends within the user's turn: {marker!r} is missing.", **told) + f" {why}"
        if re.search(r"[.?!。？！؟]$", call.excerpts[n].rstrip()) or _end_chance(call, n) >= FINISHED:
            message = _("{row} ends within the user's turn: {marker!r} is missing, and its text is complete.", **told)
            return Said(message, "warning")
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
        row, mark = name_row(call, n), chat.user_open.lstrip()
        if n == 0 and mark.rstrip() != mark:  # one row: a batch is written by one piece of code
            text, written = call.text(0), mark.rstrip()
            if text.count(written) > text.count(mark):
                return _(
                    "{row} writes {written!r} where the template writes {marker!r}.",
                    row=row,
                    written=written,
                    marker=mark,
                )
            if _turn_within(call):
                return _(
                    "{row} goes from {marker!r} into another turn: a template applied to its own text?",
                    row=row,
                    marker=mark,
                )
        if n == 0 and _closes_badly(call):
            end = chat.user_close + chat.header
            return _("{row} does not end in {end!r}, as the template does.", row=row, end=end)
        if _ending(call, n) == "nearly":
            return _("{row} does not end exactly in {header!r}, as the template does.", row=row, header=chat.header)
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
    before = call.text(0).rpartition(chat.answer_open.strip())[0]
    opener = chat.user_open.strip()  # of another turn, a tool's, the end is not known
    return bool(_lead(opener)) and before.rfind(opener) == before.rfind(_lead(opener))


def _turn_within(call: Call) -> bool:
    """Whether a user's turn begins with another turn, as where a template was applied to its own text."""
    mark = call.chat.user_open.lstrip()
    return bool(_lead(mark)) and mark + _lead(mark) in call.text(0)


def _answered_already(call: Call) -> bool:
    """Whether a finished assistant turn stands right before the header."""
    chat = call.chat
    close, header = chat.answer_close.strip(), chat.answer_open.strip()
    if not close or not _lead(header) or not _ends_in(call.prompts[0], chat.header_ids):
        return False
    before = call.text(0).rpartition(header)[0]
    _first, earlier, turn = before.rpartition(header)
    return bool(earlier) and _lead(header) not in turn and turn.count(close) == 1 and turn.rstrip().endswith(close)


def _ends_in(ids: list[int], tail: list[int]) -> bool:
    return bool(tail) and ids[-len(tail) :] == tail


def _is_plain(call: Call, n: int) -> bool:
    """Whether a bare prompt has no other fault that a rule about markers names."""
    ids = call.prompts[n]
    return bool(ids) and not (
        foreign_marker(call, n) or spelled_marker(call, n) or ends_in_end(call, n) or stripped_opening(call, n)
    )


def _taken_for_finished(call: Call, n: int) -> str:
    """Says what shows that the model takes a bare text for a whole message; empty where nothing does.

    Where one token was asked for, its scores may be all that is read.
    """
    copies = len(call.rows) // len(call.token_rows)
    answers = call.rows[n * copies : (n + 1) * copies]
    if not answers or call.budget < 2:
        return ""
    if all(row.stopped_by == "end-of-sequence" and not re.search(r"\w", row.new_text) for row in answers):
        return _(
            "{row} is bare text without the chat template, and the model ended the turn at once.", row=name_row(call, n)
        )
    ending = 0.0 if call.excerpts[n].rstrip().endswith(":") else _end_chance(call, n)  # a colon opens an answer
    mark = call.tokenizer.decode([call.chat.end_id]) if ending >= FINISHED else ""
    if not mark:
        return ""
    return _(
        "{row} is bare text without the chat template, and the model takes it for a finished message "
        "({probability:.0%} for {token!r} as the first token).",
        row=name_row(call, n),
        probability=ending,
        token=mark,
    )


def _end_chance(call: Call, n: int) -> float:
    """How likely the model ended the turn with its first token, if more than one was asked for."""
    steps = call.rows[n * len(call.rows) // len(call.token_rows)].steps if call.rows and call.budget > 1 else []
    first = steps[0].candidates if len(steps) else []
    return sum(each.probability for each in first if each.token_id == call.chat.end_id)


def _why_cut(call: Call, n: int) -> str:
    """What shows that the end of a prompt was cut off."""
    length, backend = len(call.prompts[n]), getattr(call.tokenizer, "backend_tokenizer", None)
    told: Any = getattr(backend, "truncation", None) or {}  # of the latest call of the tokenizer
    if told.get("max_length") == length and told.get("direction") == "right":
        return _("The tokenizer was told to cut at {tokens} tokens.", tokens=length)
    if length == call.tokenizer.model_max_length:
        return _("It has as many tokens as the tokenizer allows, {tokens}.", tokens=length)
    if call.excerpts[n].rstrip().endswith(call.chat.user_open.strip()):  # on purpose, to let it make up questions
        return ""
    known = call.conversations[n] if n < len(call.conversations) else None
    text = without_bos(call.tokenizer, call.text(n))
    lost = len(known.text) - known.text.find(text) - len(text) if known and text in known.text else 0
    if not lost:
        return ""
    return ngettext(
        "The last character of the chat is not in it.", "The last {n} characters of the chat are not in it.", lost
    )
