"""Rules about images in a prompt (lesson 8)."""

from typing import Any

from pitfalls.inspector.call import Call
from pitfalls.inspector.rule import Said, rule
from pitfalls.language import _, ngettext

WITHOUT_PLACES = {"mllama"}  # reads its images beside the text, and needs no token for each piece of them
MISMATCH = r"(?i)(?:image|video|multimodal) features and (?:image|video|placeholder) tokens do not match"


@rule(
    "error",
    "08_your_own_code",
    mistake="""
    import torch
    from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    eyes, mouth = CLIPVisionConfig(image_size=28, patch_size=14, **sizes), LlamaConfig(vocab_size=60_000, **sizes)
    config = LlavaConfig(vision_config=eyes, text_config=mouth, image_token_index=59_999)
    model = LlavaForConditionalGeneration(config).eval()
    model.generate(**inputs, pixel_values=torch.zeros(1, 3, 28, 28), max_new_tokens=5)  # text with no place for them
    """,
    fix="""
    # the processor writes the places, as many as the model wants:
    # content = [{"type": "image", "image": image}, {"type": "text", "text": "What is this?"}]
    # inputs = processor.apply_chat_template(
    #     [{"role": "user", "content": content}],
    #     add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt",
    # )
    output = model.generate(**inputs, max_new_tokens=50)
    """,
    source="https://github.com/sethkarten/continual-harness/issues/4",
    explains=MISMATCH,
)
def image_placeholders(call: Call) -> str | Said | None:
    """The images and the places for them in the prompt do not belong together.

    A model that sees reads each piece of an image in the place of one token of the prompt, and its processor writes
    as many of these as the image needs. A prompt of bare text has none, one written by hand has too few, and a cut one
    has lost some: transformers raises. Places without an image are read as a word that means nothing, in silence.
    """
    config: Any = getattr(call.model, "config", None)
    place = next((token for name in ("image_token_id", "image_token_index")
                  if isinstance(token := getattr(config, name, None), int)), None)  # fmt: skip
    if place is None or not call.token_rows or call.arguments.get("inputs_embeds") is not None:
        return None
    if getattr(config, "model_type", None) in WITHOUT_PLACES:
        return None
    read = 0 if call.continues else call.cache_length or 0  # their images are in the cache
    places = sum(row[read:].count(place) for row in call.token_rows)
    given = {name for name, value in call.arguments.items() if value is not None and _is_of_an_image(name)}
    if places and not given:
        return ngettext(
            "The prompt has {n} place for pieces of an image (token {token}), and no image is given: the answer is "
            "made up.",
            "The prompt has {n} places for pieces of an image (token {token}), and no image is given: the answer is "
            "made up.",
            places,
            token=place,
        )
    if "pixel_values" in given and not places and not call.made:
        return _(
            "An image is given, and the prompt has no place for it: no token {token} is among its ids.", token=place
        )
    if "pixel_values" in given and isinstance(call.error, ValueError) and "tokens do not match" in str(call.error):
        return ngettext(
            "The prompt has {n} places for pieces of images (token {token}), and the images make another number.",
            "The prompt has {n} places for pieces of images (token {token}), and the images make another number.",
            places,
            token=place,
        )
    return None


def _is_of_an_image(name: str) -> bool:
    return any(word in name for word in ("pixel", "image", "patches", "mm_"))
