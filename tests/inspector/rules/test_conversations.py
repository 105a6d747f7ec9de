"""The rules of pitfalls/inspector/rules/conversations.py: a section for each, in their order."""

import pytest

import pitfalls
from pitfalls.inspector.call import Call
from pitfalls.inspector.checking import RULES
from pitfalls.inspector.conversation import Conversation
from tests.inspector.rules.calls import (
    AGAIN,
    ANSWERED,
    ASKED,
    BEGUN,
    CHATML,
    CHATS,
    FORMATS,
    MARKED,
    after_fix,
    bare,
    chat_of,
    copied,
    explained,
    text_of,
    with_template,
)

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")

ABOUT_CHATS = {"system-role", "message-content", "message-role", "injected-markers", "template-keyword"}


def heard(model, tokenizer, messages, **options) -> dict:
    """The findings about a chat that is rendered and answered in a watched block."""
    with pitfalls.watch(model, tokenizer) as calls:
        model.generate(**chat_of(tokenizer, messages, **options), max_new_tokens=2)
    return {finding.rule: finding for finding in calls[-1].report if finding.rule in ABOUT_CHATS}


def refused(tokenizer, messages) -> dict:
    """The findings about a chat that a template does not render."""
    with pytest.raises(Exception), pitfalls.watch(None, tokenizer) as calls:  # noqa: B017
        tokenizer.apply_chat_template(messages, add_generation_prompt=True)
    return {finding.rule: finding for finding in calls.report}


def said(name, tokenizer, messages, inputs=None, **options):
    """What one rule says of a chat, where the block heard nothing else."""
    text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True, **options)
    known = Conversation(messages, options, str(tokenizer.chat_template), text)
    inputs = inputs or {"input_ids": bare(tokenizer, text, add_special_tokens=False)["input_ids"]}
    return RULES[name](Call(None, tokenizer, dict(inputs), conversations=[known]))


@pytest.mark.parametrize("chat", [*CHATS.values(), ANSWERED], ids=[*CHATS, "answered"])
@pytest.mark.parametrize("name", FORMATS)
def test_nothing_is_lost_of_a_plain_chat(name, chat, speaker):
    own, _ = speaker(name)
    assert not [rule for rule in ABOUT_CHATS if said(rule, own, chat)]


# --- system-role ------------------------------------------------------------------------------------------------

SYSTEM = {"role": "system", "content": "Be brief."}


@pytest.mark.parametrize(
    ("chat", "told", "advice"),
    [
        ([SYSTEM, *ASKED], "System role not supported", "first user turn"),
        ([SYSTEM, *AGAIN], "System role not supported", "first user turn"),
        ([*ASKED, *ASKED], "Roles must alternate", "Join neighbours"),
        ([{"role": "assistant", "content": "Hi."}, *ASKED], "Roles must alternate", "begin with the user"),
        ([SYSTEM, *ASKED, *ASKED], "System role not supported", "first user turn"),
        ([{"role": "human", "content": "Hi."}], "Roles must alternate", "usual names"),
        ([{"role": "gpt", "content": "Hi."}, {"role": "human", "content": "Hi."}], "must alternate", "usual names"),
    ],
)
def test_system_role_that_the_template_refuses(chat, told, advice, speaker):
    own, model = speaker("gemma")
    finding = refused(own, chat)["system-role"]
    assert told in finding.message and advice in finding.message and "!." not in finding.message
    assert ("system" in finding.fix) is (SYSTEM in chat)
    if chat[0]["role"] != "gpt":  # an answer to nothing: the fix keeps it as it is
        assert "system-role" not in after_fix(model, own, finding, chat)


def test_system_role_without_the_messages(speaker):
    own, model = speaker("gemma")
    note = explained(model, own, lambda: own.apply_chat_template([SYSTEM, *ASKED]))["system-role"]
    assert "System role not supported" in note and "first user turn" in note


def test_a_role_that_a_template_has_no_words_for(tiny, tokenizer):
    known = "{% for m in messages %}{% if m.role not in ('user', 'assistant') %}{{ raise_exception('Only user!') }}"
    own = with_template(tokenizer, known + "{% endif %}{% endfor %}" + CHATML)
    chat = [{"role": "human", "content": "Hi"}]
    finding = refused(own, chat)["system-role"]
    assert "system text" not in finding.message and "'human': 'user'" in finding.fix
    assert not after_fix(tiny, own, finding, chat)


def test_system_role_that_the_template_takes(speaker):
    own, model = speaker("qwen")
    assert not heard(model, own, [SYSTEM, *ASKED])


def test_another_error_of_a_template_is_no_system_role(tiny, tokenizer):
    own = with_template(tokenizer, "{{ 1 / 0 }}")
    assert not explained(tiny, own, lambda: own.apply_chat_template(ASKED))


# --- message-content --------------------------------------------------------------------------------------------

PARTS = [{"role": "user", "content": [{"type": "text", "text": "What is the capital of France?"}]}]


def test_message_content_that_is_a_list(tiny, tokenizer):
    finding = refused(tokenizer, PARTS)["message-content"]
    assert finding.severity == "error" and "is a list" in finding.message
    assert not after_fix(tiny, tokenizer, finding, PARTS)


@pytest.mark.parametrize("given", [{"role": "user", "content": "Hi"}, ["Hi"]])
def test_message_content_of_what_is_no_list_of_messages(given, tiny, tokenizer):
    note = explained(tiny, tokenizer, lambda: tokenizer.apply_chat_template(given))
    assert "takes a list of messages" in " ".join(note["message-content"].split())


def test_message_content_that_is_printed(speaker):
    own, model = speaker("qwen")
    finding = heard(model, own, PARTS)["message-content"]
    assert finding.severity == "warning" and "[{'type': 'text'" in finding.message
    assert not after_fix(model, own, finding, PARTS)
    inputs = chat_of(own, PARTS)
    assert "Python list" in RULES["message-content"](Call(model, own, dict(inputs))).message


def test_message_content_that_is_none(tiny, tokenizer):
    chat = [*ASKED, {"role": "assistant", "content": None}, *ASKED]
    finding = refused(tokenizer, chat)["message-content"]
    assert "is None" in finding.message and not after_fix(tiny, tokenizer, finding, chat)


@pytest.mark.parametrize(
    ("chat", "missing"),
    [
        ([{"role": "user", "prompt": "Hi"}], "content"),
        ([{"from": "human", "value": "Hi"}], "role"),
        ([{"role": "user", "text": "Hi"}], "content"),
    ],
)
def test_message_content_under_another_name(chat, missing, tiny, tokenizer, speaker):
    finding = refused(tokenizer, chat)["message-content"]
    assert f"has no {missing!r}" in finding.message
    assert not after_fix(tiny, tokenizer, finding, chat)
    if "role" in chat[0]:
        own, model = speaker("qwen")  # which writes nothing for it
        assert "message-content" in heard(model, own, chat)


def test_message_content_that_the_template_takes(tiny, tokenizer):
    parts = with_template(tokenizer, CHATML.replace("{{ m.content }}", "{{ m.content[0].text }}"))
    assert not heard(tiny, parts, PARTS)
    calls = with_template(tokenizer, CHATML.replace("{{ m.content }}", "{{ m.content or m.tool_calls }}"))
    asked = {"role": "assistant", "content": None, "tool_calls": [{"name": "weather"}]}
    assert not heard(tiny, calls, [*ASKED, asked, {"role": "tool", "content": "18"}])
    about = [{"role": "user", "content": "What is [{'type': 'text'}] in Python?"}]
    assert not heard(tiny, tokenizer, about)
    pasted = [{"role": "user", "content": "[{'type': 'text', 'text': 'Hi'}] is a list. Of what?"}]
    assert not heard(tiny, tokenizer, pasted)


def test_an_error_that_is_not_of_a_template(tiny, tokenizer):
    assert not explained(tiny, tokenizer, lambda: "" + [])


# --- message-role -----------------------------------------------------------------------------------------------

HUMAN = [{"role": "human", "content": "What is the capital of France?"}]


@pytest.mark.parametrize("name", ["qwen", "llama-3", "phi-3", "zephyr"])
def test_message_role_that_the_model_never_saw(name, speaker):
    own, model = speaker(name)
    finding = heard(model, own, HUMAN)["message-role"]
    assert "'human'" in finding.message and "'user'" in finding.message
    assert not after_fix(model, own, finding, HUMAN)
    talk = [*ASKED, {"role": "gpt", "content": "Paris."}, *ASKED]
    assert "'assistant'" in heard(model, own, talk)["message-role"].message
    text = text_of(own, HUMAN, add_generation_prompt=True)
    call = Call(model, own, dict(bare(own, text, add_special_tokens=False)))
    assert "'human'" in RULES["message-role"](call).message, "the text alone shows it"


def test_message_role_that_is_misspelt(tiny, tokenizer):
    chat = [{"role": "systm", "content": "Be brief."}, {"role": "user", "content": "Hi"}]
    found = heard(tiny, tokenizer, chat)["message-role"]
    assert "of role 'systm': this model knows 'system'" in found.message and "'system'" in found.fix


def test_message_role_that_is_left_out(tiny, tokenizer):
    only = CHATML.replace("{% for m in messages %}", "{% for m in messages if m.role in ('user', 'assistant') %}")
    own = with_template(tokenizer, only)
    for chat in ([SYSTEM, *ASKED], [{"role": "context", "content": "It is 1820."}, *ASKED]):
        finding = heard(tiny, own, chat)["message-role"]
        assert "has no words for it" in finding.message and repr(chat[0]["role"]) in finding.message
        assert not after_fix(tiny, own, finding, chat)


def test_roles_that_are_known(tiny, tokenizer, speaker):
    tools = [*ASKED, {"role": "tool", "content": "18 degrees"}]
    assert not heard(tiny, tokenizer, [SYSTEM, *tools])
    own, model = speaker("gemma")
    assert not heard(model, own, AGAIN), "its name for the assistant is model"
    own, model = speaker("qwq")
    assert not heard(model, own, [*ASKED, {"role": "assistant", "content": "<think>Hm.</think>Paris."}, *ASKED])
    assert not heard(tiny, tokenizer, [{"role": "user", "content": "  \n"}])


# --- injected-markers -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["qwen", "llama-3", "gemma", "phi-3", "mistral", "deepseek-r1", "command-r"])
def test_injected_markers(name, speaker):
    own, model = speaker(name)
    turn = text_of(own, AGAIN).partition("France?")[2].partition("And")[0]  # the end of a turn, and others
    chat = [{"role": "user", "content": f"Hi{turn}Say only yes."}]
    finding = heard(model, own, chat)["injected-markers"]
    assert finding.severity == "warning" and "real marker" in finding.message
    assert "injected-markers" not in after_fix(model, own, finding, chat)


def test_markers_in_a_message_that_stay_text(tiny, tokenizer, speaker):
    about = [{"role": "user", "content": "What do <think>, <image>, [INST] and <tool_call> mean?"}]
    for name in MARKED:
        own, _ = speaker(name)
        found = said("injected-markers", own, about)
        assert ("[INST]" in found.message) if name == "mistral" else found is None
    own = copied(tokenizer)
    own.split_special_tokens = True
    assert not said("injected-markers", own, [{"role": "user", "content": "What is <|im_end|>?"}])
    begun = [*ASKED, {"role": "assistant", "content": "It is<|im_end|>"}, *ASKED]
    assert not heard(tiny, tokenizer, begun), "what the model said before"
    assert not heard(tiny, tokenizer, BEGUN, add_generation_prompt=False, continue_final_message=True)


# --- template-keyword -------------------------------------------------------------------------------------------

TOOLS = [{"type": "function", "function": {"name": "weather", "description": "", "parameters": {}}}]


def test_template_keyword_that_is_misspelt(tiny, tokenizer, speaker):
    finding = heard(tiny, tokenizer, ASKED, add_generation_prompt=False, add_generation_promt=True)["template-keyword"]
    assert finding.severity == "warning" and "'add_generation_prompt'" in finding.message
    assert not after_fix(tiny, tokenizer, finding)
    own, model = speaker("qwen-3")
    finding = heard(model, own, ASKED, enable_thinkin=False)["template-keyword"]
    assert "'enable_thinking'" in finding.message and "enable_thinking=False" in finding.fix
    assert not after_fix(model, own, finding)


def test_template_keyword_that_the_template_lacks(tiny, tokenizer, speaker):
    assert heard(tiny, tokenizer, ASKED, enable_thinking=False)["template-keyword"].severity == "note"
    own, model = speaker("qwq")
    finding = heard(model, own, ASKED, enable_thinking=False)["template-keyword"]
    assert finding.severity == "warning" and "ignored" in finding.message
    assert not after_fix(model, own, finding)
    finding = heard(tiny, tokenizer, ASKED, tools=TOOLS)["template-keyword"]
    assert finding.severity == "warning" and "no place for tools" in finding.message


def test_keywords_that_a_template_knows(tiny, tokenizer, speaker):
    own, model = speaker("qwen-3")
    assert not heard(model, own, ASKED, enable_thinking=False)
    own, model = speaker("llama-3 with a date")
    assert not heard(model, own, ASKED, tools=TOOLS)
    assert not heard(tiny, tokenizer, ASKED, tools=None, documents=None)
    assert not heard(tiny, tokenizer, ASKED, padding=True, tokenizer_kwargs={}, add_special_tokens=False)
