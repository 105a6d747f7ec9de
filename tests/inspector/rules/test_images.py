"""The rules of pitfalls/inspector/rules/images.py: a section for each, in their order."""

import pytest
import torch
from transformers import CLIPVisionConfig, DynamicCache, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration

import pitfalls
from tests.helpers import tiny_llama
from tests.inspector.rules.calls import explained, ids, rules, watched

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")
IMAGE = 299
PIXELS = {"pixel_values": torch.zeros(1, 3, 28, 28)}  # four pieces
SEEN = [50, *[IMAGE] * 4, 51]


@pytest.fixture(scope="module")
def llava():
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    eyes, mouth = CLIPVisionConfig(image_size=28, patch_size=14, **sizes), LlamaConfig(vocab_size=300, **sizes)
    return LlavaForConditionalGeneration(
        LlavaConfig(vision_config=eyes, text_config=mouth, image_token_index=IMAGE)
    ).eval()


# --- image-placeholders -----------------------------------------------------------------------------------------


def test_image_placeholders_are_missing(llava):
    given = ids([50, 51]) | PIXELS
    assert "no token 299 is among" in rules(llava, None, given)["image-placeholders"].message
    note = explained(llava, None, lambda: llava.generate(**given, max_new_tokens=2))
    assert list(note) == ["image-placeholders"]


def test_image_placeholders_without_an_image(llava):
    said = rules(llava, None, ids(SEEN))["image-placeholders"]
    assert "4 places" in said.message and "no image is given" in said.message
    assert "image-placeholders" in watched(llava, None, ids(SEEN))
    assert "image-placeholders" in rules(llava, None, ids(SEEN) | {"pixel_values": None})


def test_image_placeholders_of_which_some_were_cut(llava):
    given = ids(SEEN[:3]) | PIXELS
    assert "image-placeholders" not in rules(llava, None, given), "how many an image needs only the model knows"
    note = explained(llava, None, lambda: llava.generate(**given, max_new_tokens=2))["image-placeholders"]
    assert "has 2 places" in note


def test_images_with_their_places(llava):
    given = ids(SEEN, [*SEEN]) | {"pixel_values": torch.zeros(2, 3, 28, 28)}
    assert "image-placeholders" not in rules(llava, None, given)
    assert "image-placeholders" not in watched(llava, None, given)
    mixed = ids([50, 51, 52, 53, 54, 55], SEEN) | PIXELS
    assert "image-placeholders" not in watched(llava, None, mixed), "a row of text beside one with an image"


def test_text_alone_is_right_for_a_model_that_sees(llava):
    assert "image-placeholders" not in rules(llava, None, ids([50, 51]))
    assert "image-placeholders" not in rules(tiny_llama(300), None, ids(SEEN))
    assert "image-placeholders" not in rules(llava, None, {"inputs_embeds": torch.zeros(1, 2, 16)} | PIXELS)


def test_the_images_of_another_turn_are_in_the_cache(llava):
    cache = DynamicCache(config=llava.config.get_text_config())
    with pitfalls.watch(llava) as calls:
        text = llava.generate(**ids(SEEN), **PIXELS, past_key_values=cache, max_new_tokens=2)[0].tolist()
        llava.generate(**ids([*text, 60, 61]), past_key_values=cache, max_new_tokens=2)
    assert not calls.report.rules & {"image-placeholders", "stale-cache"}
