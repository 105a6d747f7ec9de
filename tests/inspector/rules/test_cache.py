"""The rules of pitfalls/inspector/rules/cache.py: a section for each, in their order."""

import copy
import gc

import pytest
import torch
from transformers import DynamicCache, EncoderDecoderCache, StaticCache, T5Config, T5ForConditionalGeneration

import pitfalls
from pitfalls.inspector import caches
from tests.helpers import tiny_llama
from tests.inspector.rules.calls import chat_of, explained, ids, rules

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")
PROMPT, MORE = [50, 51, 52, 53, 54, 55], [60, 61, 62, 63]


@pytest.fixture
def llama():
    return tiny_llama(300)


def filled(model, prompt=PROMPT, static=False):
    """A cache, and the whole text of a call that wrote into it."""
    config = model.config
    cache = StaticCache(config=config, max_cache_len=64) if static else DynamicCache(config=config)
    with pitfalls.watch(model):
        text = model.generate(torch.tensor([prompt]), past_key_values=cache, max_new_tokens=3)[0].tolist()
    return cache, text


def found(model, *rows, cache, tokenizer=None, **settings) -> dict:
    """What `watch` says; `check` must say the same before."""
    given = ids(*rows) | {"past_key_values": cache, "max_new_tokens": 2} | settings
    before = rules(model, tokenizer, given)
    with pitfalls.watch(model, tokenizer) as calls:
        model.generate(**given)
    after = {finding.rule: finding for finding in calls[-1].report}
    assert ("stale-cache" in before) is ("stale-cache" in after)
    return after


# --- stale-cache ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("static", [False, True])
def test_stale_cache_of_the_same_prompt_again(static, llama):
    cache, _ = filled(llama, static=static)
    said = found(llama, PROMPT, cache=cache)["stale-cache"]
    assert said.severity == "error" and "holds 8 tokens before this call" in said.message and " 6:" in said.message


@pytest.mark.parametrize("static", [False, True])
def test_stale_cache_that_is_as_long_as_the_prompt(static, llama):
    cache, text = filled(llama, static=static)
    assert "stale-cache" in found(llama, text[:-1], cache=cache)


@pytest.mark.parametrize("mask", [None, [[1] * len(MORE)]])
def test_stale_cache_with_new_tokens_only_raises_and_is_explained(mask, llama):
    cache, _ = filled(llama)
    given = ids(MORE, mask=mask) | {"past_key_values": cache}
    assert "stale-cache" in rules(llama, None, given)
    assert list(explained(llama, None, lambda: llama.generate(**given, max_new_tokens=2))) == ["stale-cache"]


def test_stale_cache_and_a_mask_that_does_not_cover_it(llama):
    cache, _ = filled(llama)
    given = ids(MORE) | {"attention_mask": torch.ones(1, 9, dtype=torch.long), "past_key_values": cache}
    assert "The mask has 9 columns" in rules(llama, None, given)["stale-cache"].message


def test_stale_cache_that_holds_other_tokens_than_a_longer_prompt(llama):
    cache, text = filled(llama)
    assert "only the first 6" in found(llama, PROMPT + [70, 71, 72, 73], cache=cache)["stale-cache"].message
    cache, text = filled(llama)
    assert "only the first 0" in found(llama, MORE * 4, cache=cache)["stale-cache"].message


@pytest.mark.parametrize("static", [False, True])
def test_stale_cache_of_another_number_of_rows(static, llama):
    cache, text = filled(llama, static=static)
    given = ids(text + MORE, text + MORE) | {"past_key_values": cache}
    note = explained(llama, None, lambda: llama.generate(**given, max_new_tokens=2))["stale-cache"]
    assert "holds 1 row of text, this call has 2" in note
    cache, text = filled(llama, static=static)
    given = ids(text + MORE) | {"past_key_values": cache, "num_return_sequences": 3, "do_sample": True}
    assert "this call has 3" in rules(llama, None, given)["stale-cache"].message
    if not static:
        cache.batch_repeat_interleave(3)
        assert "stale-cache" not in rules(llama, None, given)


def test_stale_cache_that_is_a_tuple(llama):
    cache, _ = filled(llama)
    tuples = tuple((layer.keys, layer.values) for layer in cache.layers)
    given = ids(PROMPT + MORE) | {"past_key_values": tuples}
    assert "is a tuple" in rules(llama, None, given)["stale-cache"].message
    assert "stale-cache" in explained(llama, None, lambda: llama.generate(**given, max_new_tokens=2))
    assert not rules(llama, None, given | {"past_key_values": DynamicCache(tuples)})


@pytest.mark.parametrize("static", [False, True])
def test_a_cache_of_the_beginning_is_right(static, llama):
    cache, text = filled(llama, static=static)
    assert not found(llama, text + MORE, cache=cache)
    cache, text = filled(llama, static=static)
    whole = torch.ones(1, len(text) + len(MORE), dtype=torch.long)
    assert not found(llama, text[-1:] + MORE, cache=cache, attention_mask=whole)


def test_an_empty_cache_and_a_copy_are_right(llama):
    assert not found(llama, PROMPT, cache=DynamicCache(config=llama.config))
    prefix = DynamicCache(config=llama.config)
    with torch.no_grad():
        llama(torch.tensor([PROMPT]), past_key_values=prefix)
    for more in (60, 70):
        assert not found(llama, [*PROMPT, more, more + 1], cache=copy.deepcopy(prefix))


def test_a_loop_of_ones_own_is_right(llama):
    cache, text = DynamicCache(config=llama.config), PROMPT
    for _ in range(3):
        given = torch.tensor([text])
        with pitfalls.watch(llama) as calls:
            (text,) = llama.generate(given, past_key_values=cache, max_new_tokens=1).tolist()
        assert not calls.report.rules


def test_a_padded_batch_with_its_cache_is_right(llama):
    cache, rows = DynamicCache(config=llama.config), [[0, 0, 50, 51], [52, 53, 54, 55]]
    mask = torch.tensor([[0, 0, 1, 1], [1, 1, 1, 1]])
    with pitfalls.watch(llama):
        rows = llama.generate(torch.tensor(rows), attention_mask=mask, past_key_values=cache, max_new_tokens=2).tolist()
    mask = torch.cat([mask, torch.ones(2, 4, dtype=torch.long)], dim=1)
    assert not found(llama, *[row + [70, 71] for row in rows], cache=cache, attention_mask=mask)


def test_with_new_tokens_no_rule_speaks_about_the_beginning_of_the_text(speaker):
    tokenizer, model = speaker("llama-3")
    new = tokenizer("What is it called? ", add_special_tokens=False)["input_ids"]
    assert {"missing-bos", "prompt-template", "trailing-space"} <= set(rules(model, tokenizer, ids(new)))
    cache, text = filled(model, chat_of(tokenizer, [{"role": "user", "content": "Hi"}])["input_ids"][0].tolist())
    whole = torch.ones(1, cache.get_seq_length() + len(new), dtype=torch.long)
    assert not rules(model, tokenizer, ids(new) | {"past_key_values": cache, "attention_mask": whole})
    assert set(rules(model, tokenizer, ids(new) | {"past_key_values": cache})) == {"stale-cache"}


def test_a_whole_prompt_with_a_cache_is_looked_at_as_any_other(speaker):
    tokenizer, model = speaker("llama-3")
    whole = tokenizer("What is the capital of France?", add_special_tokens=False)["input_ids"]
    cache, _ = filled(model, whole[:2])
    cache.crop(-2)
    assert set(rules(model, tokenizer, ids(whole) | {"past_key_values": cache})) == {"missing-bos", "prompt-template"}


def test_what_is_not_known_of_a_cache_is_not_guessed(llama):
    cache, text = filled(llama)
    cache.crop(-4)
    with torch.no_grad():  # by a forward pass of the caller's own
        llama(torch.tensor([MORE[:3]]), past_key_values=cache)
    assert not rules(llama, None, ids(MORE * 3) | {"past_key_values": cache})
    odd = type("Odd", (), {"get_seq_length": lambda self: 1 / 0})()
    assert not rules(llama, None, ids(PROMPT) | {"past_key_values": odd})
    assert not rules(llama, None, ids(PROMPT) | {"past_key_values": "cache"})


def test_beams_leave_nothing_known(llama):
    cache = DynamicCache(config=llama.config)
    with pitfalls.watch(llama):
        llama.generate(torch.tensor([PROMPT]), past_key_values=cache, max_new_tokens=2, num_beams=2)
    assert cache not in caches._written


def test_what_is_known_of_a_cache_goes_with_it(llama):
    cache, _ = filled(llama)
    assert cache in caches._written
    before = len(caches._written)
    del cache
    gc.collect()
    assert len(caches._written) < before


def test_the_cache_of_a_model_with_an_encoder():
    t5 = T5ForConditionalGeneration(T5Config(vocab_size=300, d_model=8, d_ff=8, num_layers=1, decoder_start_token_id=0))
    cache = EncoderDecoderCache(DynamicCache(config=t5.config), DynamicCache(config=t5.config))
    given = ids(PROMPT) | {"past_key_values": cache}
    assert "stale-cache" not in rules(t5.eval(), None, given)
    assert "stale-cache" in rules(t5, None, given | {"past_key_values": ()})
