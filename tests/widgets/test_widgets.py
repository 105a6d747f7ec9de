"""What each widget ships is what transformers does, and the model is asked once for each question."""

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from traitlets import TraitError

from pitfalls import record
from pitfalls.pictures.drawing import percent, visible
from pitfalls.widgets import ChatTemplate, Length, Loop, NextToken, Padding
from pitfalls.widgets.next_token import KEPT, _histogram
from pitfalls.widgets.padding import CONTINUED
from tests.widgets.reading import CAPITAL, TEXTS, counted

REFUSING = "{{ raise_exception('no chat here') }}"
NO_SYSTEM = "{% if messages[0].role == 'system' %}" + REFUSING.replace("chat", "system") + "{% endif %}{{ messages }}"


@pytest.fixture(scope="module")
def cat(model, tokenizer):
    """The prompt's ids and the logits of the next token, straight from the model."""
    inputs = tokenizer("I am a cat.", return_tensors="pt")
    with torch.no_grad():
        return inputs["input_ids"], model(**inputs).logits[0, -1]


@pytest.fixture(scope="module")
def next_token(model, tokenizer):
    return NextToken(model, tokenizer, "I am a cat.")


# --- the next token ---


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    temperature=st.sampled_from([0.1, 0.7, 1.0, 1.5, 3.0]),
    top_k=st.sampled_from([0, 1, 5, 50]),
    top_p=st.sampled_from([0.05, 0.5, 0.9, 1.0]),
    min_p=st.sampled_from([0.0, 0.05, 0.5]),
    repetition_penalty=st.sampled_from([1.0, 1.3, 2.0]),
)
def test_scores_are_those_that_generate_samples_from(model, cat, next_token, **chosen):
    ids, _ = cat
    options = {"do_sample": True, "max_new_tokens": 1, "output_scores": True, "return_dict_in_generate": True}
    expected = model.generate(ids, attention_mask=torch.ones_like(ids), **options, **chosen).scores[0][0]
    for name, value in chosen.items():
        setattr(next_token, name, value)
    torch.testing.assert_close(next_token.scores(), expected, rtol=1e-4, atol=1e-4)


def test_the_page_gets_the_best_logits_the_prompts_own_and_a_histogram_of_the_rest(next_token, cat):
    (ids,), logits = cat
    data = next_token.data
    best = logits.topk(KEPT)
    torch.testing.assert_close(torch.tensor(data["logits"][:KEPT]), best.values, atol=1e-3, rtol=0)
    kept = set(best.indices.tolist()) | set(ids.tolist())
    assert len(data["logits"]) == len(data["texts"]) == len(kept)
    seen = torch.tensor([data["logits"][n] for n in data["seen"]])
    torch.testing.assert_close(seen, logits[sorted(set(ids.tolist()))], atol=1e-3, rtol=0)
    rest = data["rest"]
    assert sum(rest["counts"]) + len(kept) == data["size"] == len(logits)
    means = rest["low"] + (torch.arange(len(rest["counts"])) + torch.tensor(rest["means"]) / 100) * rest["width"]
    others = torch.ones_like(logits, dtype=torch.bool)
    others[list(kept)] = False
    for temperature in (0.5, 1, 3):
        mass = (torch.tensor(rest["counts"]) * (means / temperature).exp()).sum()
        torch.testing.assert_close(mass, (logits[others] / temperature).exp().sum(), rtol=0.002, atol=0)


def test_a_histogram_of_few_logits_loses_none():
    assert _histogram(torch.tensor([]))["counts"] == []
    same = _histogram(torch.full((7,), -3.0))
    assert sum(same["counts"]) == 7 and same["low"] == -3
    two = _histogram(torch.tensor([-3.0, 5.0]))
    assert two["counts"][0] == two["counts"][-1] == 1 and two["means"][-1] == 100


def test_settings_are_given_with_the_prompt_and_said(model, tokenizer, cat):
    widget = NextToken(model, tokenizer, temperature=1.5, top_k=5)
    now = widget.scores().softmax(-1)
    said = widget.summary()
    assert said.startswith(f"temperature=1.5, top_k=5: '·She' gets {percent(now.max().item())}")
    assert f"(the model alone: {percent(cat[1].softmax(-1).max().item())}); 5 of 49,152 tokens" in said
    with pytest.raises(TraitError):
        widget.top_k = 51


def test_settings_do_not_ask_the_model(model, tokenizer):
    with counted(model) as calls:
        widget = NextToken(model, tokenizer, temperature=0.5)
        widget.top_p = 0.5
        widget.summary()
        widget.figure()
        assert len(calls) == 1
        widget.prompt = "Once upon a time"
        widget.prompt = "I am a cat."
        assert len(calls) == 2, "each prompt once"


# --- length ---


@pytest.mark.parametrize("budget", [1, 29, 30, 31])
def test_a_budget_keeps_what_generate_would(model, tokenizer, counting, budget):
    widget = Length(counting, tokenizer, budget=budget)
    inputs = {"input_ids": counting.input_ids, "attention_mask": counting.attention_mask}
    for number, real in enumerate(record(model, tokenizer, inputs, max_new_tokens=budget).rows):
        widget.row = number
        kept = widget.kept()
        assert (kept.new_ids, kept.new_text, kept.stopped_by) == (real.new_ids, real.new_text, real.stopped_by)
        total = len(real.prompt_ids) + len(real.new_ids)
        assert f"stopped by {real.stopped_by}" in widget.summary()
        assert f"{len(real.prompt_ids)} of {total} tokens" in widget.summary()


def test_length_ships_every_row_whole(tokenizer, counting):
    widget = Length(counting, tokenizer)
    assert widget.budget == 20 and widget.data["most"] == 40
    for row, shipped in zip(counting.rows, widget.data["rows"], strict=True):
        assert len(shipped["prompt"]) == len(row.prompt_ids) and len(shipped["new"]) == len(row.new_ids)
        assert shipped["stopped_by"] == row.stopped_by
    assert widget.data["rows"][1]["new"][-1] == ("<|im_end|>", "special")


# --- padding ---


def test_padding_ships_what_each_row_goes_on_with(model, tokenizer):
    with counted(model) as calls:
        widget = Padding(model, tokenizer, TEXTS)
        widget.figure()
        assert len(calls) == 3, "all states together, and each row alone"
    singles = [tokenizer(text, return_tensors="pt") for text in TEXTS]
    alone = [record(model, tokenizer, single, max_new_tokens=CONTINUED).new_ids for single in singles]
    seen = {}
    for side in ("left", "right"):
        for masked in (True, False):
            widget.side, widget.masked = side, masked
            inputs = tokenizer(TEXTS, padding=True, padding_side=side, return_tensors="pt")
            if not masked:
                inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
            rows = [row.new_ids for row in record(model, tokenizer, inputs, max_new_tokens=CONTINUED).rows]
            assert [row.new_ids for row in widget.rows()] == rows, "as in a call of its own"
            same = seen[side, masked] = sum(row == single for row, single in zip(rows, alone, strict=True))
            shipped = widget.data["states"][f"{side} {masked}".lower()]
            assert shipped["same"] == same and f"{same} of 2 rows as alone" in widget.summary()
            for tokens, row, single in zip(shipped["new"], rows, alone, strict=True):
                differs = [n >= len(single) or token != single[n] for n, token in enumerate(row)]
                assert [style == "changed" for _, style in tokens] == differs
            hidden = int((inputs["attention_mask"] == 0).sum())
            assert sum(not mask for cells in shipped["grid"] for _, mask, _ in cells) == hidden
    assert seen["left", True] == 2 and seen["right", True] == 1, "the lesson's claim"


def test_positions_count_what_the_mask_lets_through(model, tokenizer, few_tokens):
    states = Padding(model, tokenizer, TEXTS).data["states"]
    first = states["left true"]["grid"][0]
    assert [position for _, mask, position in first if mask] == list(range(7))
    assert [position for _, _, position in states["left false"]["grid"][0]] == list(range(len(first)))


# --- the chat template ---


def ending(model, tokenizer, inputs) -> float:
    with torch.no_grad():
        return model(**inputs).logits[0, -1].softmax(-1)[tokenizer.eos_token_id].item()


def test_chat_says_how_likely_the_end_is(model, tokenizer):
    widget = ChatTemplate(model, tokenizer, CAPITAL)
    chat = tokenizer.apply_chat_template(CAPITAL, add_generation_prompt=True, return_dict=True, return_tensors="pt")
    templated = ending(model, tokenizer, chat)
    assert f"ends its turn at once with {percent(templated)}" in widget.summary() and templated < 0.001
    widget.template = False
    raw = ending(model, tokenizer, tokenizer(CAPITAL[0]["content"], return_tensors="pt"))
    assert f"ends its turn at once with {percent(raw)}" in widget.summary() and raw > 0.5
    assert widget.data["false false true"]["end"] == pytest.approx(raw, abs=1e-4)


def test_chat_ships_every_state_as_the_tokenizer_renders_it(model, tokenizer):
    with counted(model) as calls:
        widget = ChatTemplate(model, tokenizer, CAPITAL)
        assert len(widget.data) == 8 and len(calls) == 6, "without a template there is no generation prompt"
    for system in (False, True):
        for prompted in (False, True):
            widget.system, widget.prompted = system, prompted
            expected = tokenizer.apply_chat_template(widget.messages(), tokenize=False, add_generation_prompt=prompted)
            parts = widget.data[f"true {system} {prompted}".lower()]["parts"]
            assert "".join(text for _, text in parts) == expected
            assert ("system" in dict(parts)) == system and ("user", CAPITAL[0]["content"]) in parts
    widget.turns = [{"role": "user", "content": "Why is the sky blue?"}]
    assert ("user", "Why is the sky blue?") in widget.data["true true true"]["parts"]


def test_a_system_turn_of_the_messages_is_switched_on(model, tokenizer):
    widget = ChatTemplate(model, tokenizer, [{"role": "system", "content": "Be kind."}, *CAPITAL])
    assert widget.system and widget.messages()[0]["content"] == "Be kind." and len(widget.turns) == 1


def test_chat_says_what_a_template_refuses(model, tokenizer, monkeypatch):
    monkeypatch.setattr(tokenizer, "chat_template", REFUSING)
    assert "TemplateError: no chat here" in ChatTemplate(model, tokenizer, CAPITAL).problem
    monkeypatch.setattr(tokenizer, "chat_template", NO_SYSTEM)
    widget = ChatTemplate(model, tokenizer, CAPITAL)
    assert not widget.problem and "no system here" in widget.data["true true true"]["problem"]


# --- the loop ---


def test_loop_ships_all_steps_and_their_candidates(model, tokenizer):
    widget = Loop(model, tokenizer, "A list of colors: red, blue", step=2)
    call = record(model, tokenizer, tokenizer("A list of colors: red, blue", return_tensors="pt"), max_new_tokens=20)
    for step, shipped in zip(call.steps, widget.data["steps"], strict=True):
        text, probability = shipped["candidates"][shipped["taken"]]
        assert text == visible(step.chosen.text) and probability == pytest.approx(step.chosen.probability, abs=1e-4)
        assert len(shipped["candidates"]) == 6
    assert widget.summary().startswith("Step 2 of 20: '·and' is taken")


def test_another_candidate_leads_where_generate_leads(model, tokenizer):
    widget = Loop(model, tokenizer, "A list of colors: red, blue", max_new_tokens=8, step=3)
    greedy = widget.call()
    other = greedy.steps[2].candidates[1]
    with counted(model) as calls:
        widget._take(1)
        widget._take(1)
        assert len(calls) == 1, "a second time finds the way already taken"
    ids = torch.tensor([[*greedy.prompt_ids, *greedy.new_ids[:2], other.token_id]])
    rest = record(model, tokenizer, {"input_ids": ids}, max_new_tokens=5)
    call = widget.call()
    assert call.new_ids == [*greedy.new_ids[:2], other.token_id, *rest.new_ids]
    assert [step.chosen.token_id for step in call.steps] == call.new_ids and call.stopped_by == rest.stopped_by
    assert "was likelier" in widget.summary()
    widget._take(0)
    assert widget.call().new_ids == greedy.new_ids, "and back again"


def test_taking_the_end_token_ends_the_path(model, tokenizer):
    widget = Loop(model, tokenizer, "What is the capital of France?", max_new_tokens=6)
    assert widget.call().stopped_by == "end-of-sequence" and len(widget.data["steps"]) == 1
    widget._run(lambda: widget._take(1))
    assert len(widget.data["steps"]) == len(widget.call().new_ids) == 6 and widget.call().stopped_by == "length"
    widget.step = 6
    widget.prompt = "What is the capital of France? "
    widget.prompt = "What is the capital of France?"
    assert widget.step == len(widget.data["steps"]) == 1, "the slider is not left behind the end"
