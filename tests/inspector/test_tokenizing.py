"""A bare `watch()`: whose ids these are, of which conversation, and what is decoded of the output."""

import copy
import dataclasses
import gc
import subprocess
import sys
import threading
from types import SimpleNamespace

import pytest
import torch
from transformers import AutoTokenizer, pipeline

import pitfalls
from pitfalls import watch
from pitfalls.inspector.tokenizer_calls import ENCODINGS, TOKENIZER_CALLS
from tests.helpers import tiny_llama, word_tokenizer

pytestmark = pytest.mark.filterwarnings("ignore:Using the model-agnostic default")
FRANCE = [{"role": "user", "content": "What is the capital of France?"}]
ASK = {"add_generation_prompt": True, "return_dict": True, "return_tensors": "pt"}
SPACE = torch.tensor([[504, 2767, 45360, 260, 216]])  # "The dog chased the "


@pytest.fixture(scope="module")
def tiny(tokenizer):
    return tiny_llama(len(tokenizer), sharpness=20)


@pytest.fixture
def elsewhere(tokenizer):
    """Another tokenizer, with other words."""
    return word_tokenizer(len(tokenizer) + 2000, pad_token="<pad>", eos_token="<end>")


def seen(model, ids, **settings):
    """The tokenizer that a bare block gives to a call."""
    with watch() as calls:
        model.generate(ids, max_new_tokens=1, **settings)
    return calls[0].tokenizer


# --- heard in the block -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "encode",
    [
        lambda t: t(["The dog", "A cat sat on"], padding=True, return_tensors="pt")["input_ids"],
        lambda t: torch.tensor([t.encode("The dog chased")]),
        lambda t: t.apply_chat_template(FRANCE, **ASK)["input_ids"],
        lambda t: torch.tensor([t.apply_chat_template(FRANCE, return_dict=False)]),
        lambda t: t.pad({"input_ids": [t("The dog")["input_ids"], [5]]}, return_tensors="pt")["input_ids"][:1],
        lambda t: t("The dog chased the cat, and more", return_tensors="pt")["input_ids"][:, 2:6],  # a piece
        lambda t: torch.cat([t("The dog chased", return_tensors="pt")["input_ids"], SPACE], dim=1),
    ],
)
def test_the_tokenizer_that_made_the_ids_in_the_block(encode, tiny, tokenizer, elsewhere):
    make = {"it": lambda: copy.copy(tokenizer), "other": lambda: copy.copy(elsewhere)}  # nobody's name
    with watch() as calls:
        own = make["it"]()
        ids, _ = encode(own), make["other"]()("w7 w8 w9")
        expected = id(own)
        tiny.generate(ids, max_new_tokens=1)
    assert id(calls[0].tokenizer) == expected


def test_of_two_that_were_heard_the_one_whose_ids_these_are(tiny, tokenizer, elsewhere):
    with watch() as calls:
        one = tokenizer("The dog chased the cat", return_tensors="pt")
        two = elsewhere("w7 w8 w9", return_tensors="pt")
        tiny.generate(**one, max_new_tokens=1)
        tiny.generate(**two, max_new_tokens=1)
    assert [call.tokenizer for call in calls] == [tokenizer, elsewhere]


def test_two_templates_for_one_vocabulary(tiny, tokenizer):
    """As of a base model and its chat model: what was heard tells, and otherwise nobody knows."""
    base = copy.copy(tokenizer)
    base.chat_template = None
    inputs = tokenizer("The dog chased the cat", return_tensors="pt")
    with watch() as calls:
        tiny.generate(**inputs, max_new_tokens=1)
        tiny.generate(**base("The dog chased the cat", return_tensors="pt"), max_new_tokens=1)
        tiny.generate(**tokenizer("The dog chased the cat", return_tensors="pt"), max_new_tokens=1)
    assert [call.tokenizer for call in calls] == [None, base, tokenizer]


def test_what_rules_ask_a_tokenizer_is_not_heard(tiny, tokenizer):
    with watch():
        tiny.generate(**tokenizer("The dog", return_tensors="pt"), max_new_tokens=1)
        assert len(ENCODINGS.rows) == 1 and not ENCODINGS.rendered
    assert not ENCODINGS.rows and not ENCODINGS.tokenizers


def test_nothing_keeps_a_tokenizer_alive(tiny, tokenizer):
    with watch():
        own = copy.copy(tokenizer)
        own("The dog")
        assert ENCODINGS.alive() == [own]
        del own
        gc.collect()
        assert ENCODINGS.alive() == []


# --- among the names of the code --------------------------------------------------------------------------------


def test_ids_made_before_the_block(tiny, tokenizer):
    words = tokenizer("The dog chased the cat", return_tensors="pt")["input_ids"]
    assert seen(tiny, words) is tokenizer


def test_a_tokenizer_that_an_object_keeps(tiny, tokenizer, elsewhere):
    class Bot:
        def __init__(self, tokenizer, model):
            self.tools, self.model = SimpleNamespace(tokenizer=tokenizer), model

        def ask(self, ids):
            return self.model.generate(ids, max_new_tokens=1)

    def called(bot, ids):
        with watch() as calls:
            bot.ask(ids)
        return calls[0].tokenizer

    ids = tokenizer("The dog chased the cat", return_tensors="pt")["input_ids"]
    bot = Bot(tokenizer, tiny)
    del tokenizer
    assert called(bot, ids) is bot.tools.tokenizer


def test_no_wrong_one_is_taken(tiny, elsewhere, tokenizer):
    ids = tokenizer("The dog chased the cat", return_tensors="pt")["input_ids"]

    def call(model, words):
        return seen(model, ids)

    def nameless(run):
        return run(tiny, elsewhere)

    del tokenizer
    assert nameless(call) is not elsewhere


def test_code_of_other_objects_is_not_run(tiny, tokenizer):
    class Proxy:
        def __getattr__(self, name):
            raise AssertionError(f"asked for {name}")

        __class__ = property(lambda self: self.missing)

    proxy = Proxy()
    ids = tokenizer("The dog chased the cat", return_tensors="pt")["input_ids"]
    assert seen(tiny, ids) is tokenizer and proxy is not None


def test_ids_of_nobody(tiny, tokenizer, elsewhere):
    torch.manual_seed(1)
    assert seen(tiny, torch.randint(100, 40_000, (1, 24))) is None


def test_nothing_is_imported_to_find_one(tmp_path):
    script = """
import sys, torch, pitfalls
from transformers import LlamaConfig, LlamaForCausalLM
model = LlamaForCausalLM(LlamaConfig(vocab_size=99, hidden_size=16, intermediate_size=16, num_hidden_layers=1,
                                     num_attention_heads=2))
with pitfalls.watch() as calls:
    before = set(sys.modules)
    model.generate(torch.tensor([[5, 6, 7]]), max_new_tokens=1)
print([name for name in set(sys.modules) - before if name.startswith("transformers.models")])
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# --- what a bare block says -------------------------------------------------------------------------------------


def test_one_line_is_enough(model, tokenizer):
    inputs = tokenizer("What is the capital of France?", return_tensors="pt")
    with watch() as calls:
        model.generate(**inputs, max_new_tokens=5)
    assert "prompt-template" in calls[0].report.rules
    assert calls[0].place.startswith("test_tokenizing.py:")


def test_a_generate_that_was_bound_before_the_block(tiny, tokenizer):
    ask = tiny.generate
    with watch() as calls:
        ask(**tokenizer("The dog", return_tensors="pt"), max_new_tokens=2)
    assert len(calls[0].new_ids) == 2
    ask(**tokenizer("The dog", return_tensors="pt"), max_new_tokens=2)
    assert len(calls) == 1


def test_a_generate_bound_before_that_runs_in_a_thread(tiny, tokenizer):
    inputs = tokenizer("The dog", return_tensors="pt")
    thread = threading.Thread(target=tiny.generate, kwargs={**inputs, "max_new_tokens": 2})
    with watch() as calls:
        thread.start()
        thread.join()
    assert [call.place for call in calls] == [""]


def test_only_some_rules(tiny, tokenizer):
    inputs = tokenizer("What is the capital of France? ", return_tensors="pt")
    for options, expected in (
        ({"only": "trailing-space"}, {"trailing-space"}),
        ({"ignore": ["trailing_space", "prompt-template"]}, {"ignored-sampling-flags"}),
    ):
        with watch(**options) as calls:
            tiny.generate(**inputs, max_new_tokens=1, temperature=0.7)
        assert calls.report.rules == expected
        report = pitfalls.check(tiny, tokenizer, inputs, max_new_tokens=1, temperature=0.7, **options)
        assert report.rules == expected


@pytest.mark.parametrize("look", [lambda **k: watch(**k), lambda **k: pitfalls.check(None, None, None, **k)])
def test_a_name_that_no_rule_has(look):
    with pytest.raises(ValueError, match="There is no rule 'pading-side'. Did you mean 'padding-side'?"):
        look(ignore="pading_side")


# --- conversations ----------------------------------------------------------------------------------------------


@pytest.fixture
def conversations(monkeypatch):
    """What calls knew of their conversations while the rules looked at them."""
    known = []
    original = pitfalls.RULES["length"].look

    def look(call):
        known.append(list(call.conversations))
        return original(call)

    monkeypatch.setitem(pitfalls.RULES, "length", dataclasses.replace(pitfalls.RULES["length"], look=look))
    return known


HELLO = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello"}]


def by_hand(tokenizer, chat, **options):
    text = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True, **options)
    return tokenizer(text, add_special_tokens=False, return_tensors="pt")


def with_a_beginning(tokenizer, chat, **options):
    text = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True, **options)
    return tokenizer(text + "Sure", add_special_tokens=False, return_tensors="pt")


@pytest.mark.parametrize(
    "render", [lambda t, c, **o: t.apply_chat_template(c, **ASK, **o), by_hand, with_a_beginning], ids=range(3)
)
def test_the_conversation_of_a_call(render, tiny, tokenizer, conversations):
    with watch():
        inputs = render(tokenizer, HELLO, enable_thinking=False)
        render(tokenizer, FRANCE)
        tiny.generate(**inputs, max_new_tokens=1)
    ((found,),) = conversations
    assert found.messages == HELLO and found.options == {"enable_thinking": False}
    assert found.template == tokenizer.chat_template and "Be brief." in found.text


def test_the_conversations_of_a_batch(tiny, tokenizer, conversations):
    with watch():
        inputs = tokenizer.apply_chat_template([FRANCE, HELLO], padding=True, **ASK)
        tiny.generate(**inputs, max_new_tokens=1)
        tiny.generate(**tokenizer("1, 2,", return_tensors="pt"), max_new_tokens=1)
    assert [each and each.messages for each in conversations[0]] == [FRANCE, HELLO]
    assert conversations[1] == [None]


def test_nothing_is_kept_of_a_conversation(tiny, tokenizer):
    with watch() as calls:
        tiny.generate(**tokenizer.apply_chat_template(FRANCE, **ASK), max_new_tokens=1)
    assert calls[0].conversations == [] and not ENCODINGS.rendered


def test_a_template_that_raises(tokenizer, monkeypatch):
    found = []
    monkeypatch.setattr(
        "pitfalls.inspector.watching.apply_rules", lambda call, rules: found.append(call) or pitfalls.Report()
    )
    with pytest.raises(TypeError), watch():
        tokenizer.apply_chat_template([{"role": "user", "content": [{"type": "text", "text": "Hi"}]}])
    (call,) = found
    assert call.tokenizer is tokenizer and call.conversations[0].messages[0]["role"] == "user"


def test_outputs_of_tokenizers_are_theirs(tokenizer):
    def all_of(t):
        text = t.apply_chat_template(FRANCE, tokenize=False)
        ids = t(text, return_tensors="pt")["input_ids"]
        return text, ids.tolist(), t.encode("The dog"), t.decode(ids[0]), t.batch_decode(ids, skip_special_tokens=True)

    expected = all_of(tokenizer)
    with watch():
        assert all_of(tokenizer) == expected
    assert len(TOKENIZER_CALLS) == 5


# --- what is decoded --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cut", "expected"),
    [
        (lambda out: out[0], (0, 0, 9)),
        (lambda out: out[1], (1, 0, 9)),
        (lambda out: out[1, 5:], (1, 5, 4)),
        (lambda out: out[1][3:7], (1, 3, 4)),
        (lambda out: out[0][40:], (0, 9, 0)),
        (lambda out: out[1][40:], (1, 9, 0)),
        (lambda out: out[1, 5:].tolist(), (1, 5, 4)),
        (lambda out: out[0].numpy()[5:], (0, 5, 4)),
        (lambda out: out[:, 5:][1], (1, 5, 4)),
        (lambda out: out[0, 5:].clone(), (0, 5, 4)),
        (lambda out: [9, 9, 9], None),
        (lambda out: torch.tensor([], dtype=torch.long), None),
    ],
)
def test_where_the_decoded_ids_stand(cut, expected, tiny, tokenizer):
    inputs = tokenizer(["1, 2,", "A, B, C"], padding=True, return_tensors="pt")
    assert inputs["input_ids"].shape == (2, 5)
    with watch(tiny, tokenizer) as calls:
        output = tiny.generate(**inputs, max_new_tokens=4, min_new_tokens=4)
        tokenizer.decode(cut(output))
    found = calls[0].decoded
    assert (found and (found.row, found.first, len(found.ids))) == expected


def test_a_batch_is_decoded_row_by_row_and_an_earlier_output_too(tiny, tokenizer):
    inputs = tokenizer(["1, 2,", "A, B, C"], padding=True, return_tensors="pt")
    with watch(tiny, tokenizer) as calls:
        first = tiny.generate(**inputs, max_new_tokens=4, min_new_tokens=4)
        tiny.generate(**inputs, max_new_tokens=2, do_sample=True)
        tokenizer.batch_decode(first[:, 5:])
    assert (calls[0].decoded.row, calls[0].decoded.first) == (1, 5) and calls[1].decoded is None


def test_a_pipeline_decodes_for_itself(model, tokenizer):
    pipe = pipeline("text-generation", model=model, tokenizer=tokenizer)
    with watch(pipe) as calls:
        pipe(FRANCE, max_new_tokens=2)
    assert calls[0].decoded is None


def test_the_tokenizer_of_a_folder_is_found_by_its_name(model, tokenizer):
    """Of two that write alike, the one that bears the model's name."""
    named = AutoTokenizer.from_pretrained(model.name_or_path)
    other = copy.copy(named)
    other.name_or_path, other.chat_template = "someone/else", None
    ids = torch.tensor([named("The dog chased the cat")["input_ids"]])

    def ask(one, two):
        return seen(model, ids)

    assert ask(other, named).name_or_path == model.name_or_path
