"""What a chat template makes of messages."""

import json

import pytest
from matplotlib.figure import Figure

from pitfalls import pictures
from pitfalls.pictures.drawing import visible
from tests.pictures.reading import boxes, check, is_style, styled, title

ZEPHYR = (
    "{% for message in messages %}\n"
    "{% if message['role'] == 'user' %}\n{{ '<|user|>\n' + message['content'] + eos_token }}\n"
    "{% elif message['role'] == 'system' %}\n{{ '<|system|>\n' + message['content'] + eos_token }}\n"
    "{% elif message['role'] == 'assistant' %}\n{{ '<|assistant|>\n'  + message['content'] + eos_token }}\n"
    "{% endif %}\n"
    "{% if loop.last and add_generation_prompt %}\n{{ '<|assistant|>' }}\n{% endif %}\n{% endfor %}"
)
MISTRAL = (
    "<s>{% for message in messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}"
    "{% if message['role'] == 'user' %}{{ '[INST] ' + message['content'] | trim + ' [/INST]' }}"
    "{% else %}{{ ' ' + message['content'] | trim + '</s>' }}{% endif %}{% endfor %}"
)
SHOUTING = "{% for message in messages %}<{{ message['role'] }}>{{ message['content'] | upper }}\n{% endfor %}"
SMOLLM2 = None  # the tokenizer's own
TEMPLATES = pytest.mark.parametrize("template", [SMOLLM2, ZEPHYR, MISTRAL], ids=["smollm2", "zephyr", "mistral"])


def drawn_chat(tokenizer, monkeypatch, template, messages, **kwargs) -> tuple[Figure, str]:
    """The picture, and the text that is in it."""
    if template:
        monkeypatch.setattr(tokenizer, "chat_template", template)
    text = tokenizer.apply_chat_template(messages, tokenize=False, **{"add_generation_prompt": True} | kwargs)
    figure = pictures.chat(tokenizer, messages, **kwargs)
    assert "".join(word for word, *_ in boxes(figure.axes[0])) == visible(text), "nothing is lost or twice"
    return figure, text


CONTENTS = {
    "plain": "What is the capital of France?",
    "role": "user",  # also in the template itself
    "template-word": "AI",
    "letter": "s",
    "tag": "INST",
    "lines": "one\n\ntwo\n  three",
    "dollars": "costs $x$ or $y_1$",
    "long": "word and more " * 60 + "end",
    "other-script": "日本語 🙂",
    "template-like": "<|im_end|>\n<|im_start|>assistant\n[/INST]",
}


@TEMPLATES
@pytest.mark.parametrize("content", CONTENTS)
def test_what_is_yours_and_what_the_templates(content, template, tokenizer, monkeypatch):
    content = CONTENTS[content]
    figure, text = drawn_chat(tokenizer, monkeypatch, template, [{"role": "user", "content": content}])
    assert "".join(styled(figure, "user")) == visible(content)
    assert title(figure) == f"{len(content)} characters are yours, {len(text) - len(content)} come from the template"
    drawn = boxes(figure.axes[0])
    before = "".join(word for word, *_ in drawn[: [is_style(patch, "user") for *_, patch in drawn].index(True)])
    rendered = tokenizer.apply_chat_template([{"role": "user", "content": "@@"}], tokenize=False)
    assert before == visible(rendered.split("@@")[0]), "the first place where the content stands, not a word like it"


@pytest.mark.parametrize("content", CONTENTS)
def test_chat_can_be_read(content, tokenizer):
    check(
        pictures.chat(
            tokenizer, [{"role": "user", "content": CONTENTS[content]}, {"role": "assistant", "content": "Hi"}]
        )
    )


@TEMPLATES
@pytest.mark.parametrize("content", ["  spaced \n", "spaced ", " spaced"])
def test_content_with_spaces_around_it(content, template, tokenizer, monkeypatch):
    figure, text = drawn_chat(tokenizer, monkeypatch, template, [{"role": "user", "content": content}])
    kept = content.strip() if template == MISTRAL else content
    assert "".join(styled(figure, "user")) == visible(kept)
    assert title(figure).startswith(f"{len(kept)} characters are yours, {len(text) - len(kept)} come")


@TEMPLATES
def test_empty_content(template, tokenizer, monkeypatch):
    figure, text = drawn_chat(tokenizer, monkeypatch, template, [{"role": "user", "content": ""}])
    assert styled(figure, "user") == []
    assert title(figure) == f"0 characters are yours, {len(text)} come from the template"


@TEMPLATES
def test_a_conversation(template, tokenizer, monkeypatch):
    contents = ["Hi", "Hi", "Say Hi", "i", "Hi"]
    messages = [{"role": ("user", "assistant")[n % 2], "content": content} for n, content in enumerate(contents)]
    figure, text = drawn_chat(tokenizer, monkeypatch, template, messages)
    drawn = [(word, patch) for word, *_, patch in boxes(figure.axes[0]) if not is_style(patch, "special")]
    assert [word for word, _ in drawn] == [visible(content) for content in contents]
    assert [is_style(patch, "user") for _, patch in drawn] == [True, False, True, False, True]
    assert [is_style(patch, "assistant") for _, patch in drawn] == [False, True, False, True, False]
    own = sum(map(len, contents))
    assert title(figure) == f"{own} characters are yours, {len(text) - own} come from the template"


def test_a_system_message(tokenizer, monkeypatch):
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]
    figure, _ = drawn_chat(tokenizer, monkeypatch, SMOLLM2, messages)
    assert styled(figure, "system") == ["Be·brief."] and styled(figure, "user") == ["Hi"]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["template", "system", "user"]


def test_the_result_of_a_tool_and_a_turn_without_words(tokenizer, monkeypatch):
    calls = "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% if m.tool_calls %}CALL{% endif %}\n{% endfor %}"
    messages = [
        {"role": "user", "content": "How warm is it?"},
        {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "temperature"}}]},
        {"role": "tool", "content": "18.5"},
    ]
    figure, _ = drawn_chat(tokenizer, monkeypatch, calls, messages)
    assert styled(figure, "tool") == ["18.5"] and "CALL" in "".join(styled(figure, "special"))
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["template", "user", "tool"]


@pytest.mark.parametrize("name", ["temperature", "wärme"])
def test_the_call_of_a_tool_is_the_assistants_where_it_stands_as_json(name, tokenizer, monkeypatch):
    calls = (
        "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% for c in m.tool_calls %}<call>{{ c.function | tojson }}"
        "</call>{% endfor %}\n{% endfor %}"
    )
    function = {"name": name, "arguments": {"city": "Tokyo"}}
    messages = [
        {"role": "assistant", "content": "", "tool_calls": [{"type": "function", "function": function}] * 2},
        {"role": "tool", "content": "18.5"},
    ]
    figure, _ = drawn_chat(tokenizer, monkeypatch, calls, messages)
    assert styled(figure, "assistant") == [visible(json.dumps(function, ensure_ascii=False))] * 2
    assert "</call>" in "".join(styled(figure, "special")) and styled(figure, "tool") == ["18.5"]


def test_the_default_system_message_is_the_templates(tokenizer, monkeypatch):
    figure, _ = drawn_chat(tokenizer, monkeypatch, SMOLLM2, [{"role": "user", "content": "Hi"}])
    assert any("You·are·a·helpful·AI·assistant" in word for word in styled(figure, "special"))


def test_without_a_generation_prompt(tokenizer, monkeypatch):
    message = [{"role": "user", "content": "Hi"}]
    _, text = drawn_chat(tokenizer, monkeypatch, SMOLLM2, message, add_generation_prompt=False)
    assert not text.endswith("assistant\n")


def test_a_template_that_changes_the_content(tokenizer, monkeypatch):
    figure, _ = drawn_chat(tokenizer, monkeypatch, SHOUTING, [{"role": "user", "content": "loud"}])
    assert styled(figure, "user") == [], "LOUD is not what was written"


@pytest.mark.parametrize("count", [1, 6])
def test_the_legend_is_below_the_text(count, tokenizer):
    figure = check(pictures.chat(tokenizer, [{"role": "user", "content": "Hi"}] * count))
    legend = figure.legends[0].get_window_extent()
    assert not any(legend.overlaps(patch.get_window_extent()) for patch in figure.axes[0].patches)
