"""The distribution over the next token under temperature, filters and penalty."""

from collections import Counter
from typing import Any

import ipywidgets
import torch
from matplotlib.figure import Figure
from transformers import (
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from pitfalls import pictures
from pitfalls.pictures.drawing import percent, short, token_text, visible
from pitfalls.widgets import markup
from pitfalls.widgets.play import Play, encode

SHOWN = 12  # tokens with a bar of their own
OFF = {"temperature": 1, "top_k": 0, "top_p": 1, "min_p": 0, "repetition_penalty": 1}  # what changes nothing


class NextToken(Play):
    """The distribution over the next token, and what temperature, the filters and the penalty make of it.

    The dashed outline is the model's own probability. *sample 100* draws from what is left.
    """

    def __init__(self, model: Any, tokenizer: Any, prompt: str = "I am a cat."):
        self.model, self.tokenizer = model, tokenizer
        self.drawn: tuple[Any, Counter[int]] = (None, Counter())  # for which prompt and settings, and what
        self.prompt = ipywidgets.Text(prompt, description="prompt", continuous_update=False)
        self.prompt.add_class("pf-whole")
        self.settings = {
            "temperature": ipywidgets.FloatSlider(1, min=0.1, max=3, step=0.05, description="temperature"),
            "top_k": ipywidgets.IntSlider(0, min=0, max=50, description="top-k (0: off)"),
            "top_p": ipywidgets.FloatSlider(1, min=0.05, max=1, step=0.01, description="top-p (1: off)"),
            "min_p": ipywidgets.FloatSlider(0, min=0, max=0.5, step=0.01, description="min-p (0: off)"),
            "repetition_penalty": ipywidgets.FloatSlider(1, min=1, max=2, step=0.05, description="repetition penalty"),
        }
        super().__init__(self.prompt, *self.settings.values(), self._button("sample 100", self._sample))

    def values(self) -> dict[str, Any]:
        return {name: slider.value for name, slider in self.settings.items()}

    def logits(self) -> tuple[torch.Tensor, torch.Tensor]:
        """The prompt's ids (1, tokens), and the model's logits for the next token, (vocabulary,)."""
        return self._ask(self.prompt.value, lambda: _next_logits(self.model, self.tokenizer, self.prompt.value))

    def scores(self) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Those logits after the settings, and what each filter cut."""
        return apply_settings(*self.logits(), **self.values())

    def summary(self) -> str:
        _, logits = self.logits()
        scores, _ = self.scores()
        own, now = logits.softmax(-1), scores.softmax(-1)
        best = now.argmax().item()
        text = f"'{visible(self.tokenizer.decode([best]))}' gets {percent(now[best].item())}"
        chosen = [f"{name} {value:g}" for name, value in self.values().items() if value != OFF[name]]
        if chosen:
            said = ", ".join(chosen).replace("_", " ")
            text = f"{said[0].upper()}{said[1:]}: {text} (the model alone: {percent(own[best].item())})"
        return f"{text}; {int(torch.isfinite(scores).sum()):,} of {len(scores):,} tokens can be drawn."

    def figure(self) -> Figure:
        _, logits = self.logits()
        scores, _ = self.scores()
        same = torch.equal(scores, logits)
        panels = logits if same else {"the model alone": logits, "with these settings": scores}
        title = f"{short(self.prompt.value, 100)} …\n{self.summary()}"
        return pictures.next_token(panels, self.tokenizer, top=SHOWN, title=title)

    def _draw(self) -> str:
        _, logits = self.logits()
        scores, cut = self.scores()
        own, now = logits.softmax(-1), scores.softmax(-1)
        shown = own.topk(min(SHOWN, len(own))).indices.tolist()
        state, drawn = self.drawn
        counts = drawn if state == (self.prompt.value, self.values()) else None
        rows = [
            markup.Bar(
                token_text(self.tokenizer, token_id),
                own[token_id].item(),
                now[token_id].item(),
                cut_by=next((name for name, mask in cut.items() if mask[token_id]), ""),
                drawn=None if counts is None else counts[token_id],
            )
            for token_id in shown
        ]
        kept = int(torch.isfinite(scores).sum() - torch.isfinite(scores[shown]).sum())
        others = markup.Bar(
            f"{len(own) - len(shown):,} others",
            1 - own[shown].sum().item(),
            max(0.0, 1 - now[shown].sum().item()),
            cut_by="" if kept else "the filters",
            drawn=None if counts is None else 100 - sum(counts[token_id] for token_id in shown),
        )
        return markup.bars(rows, others)

    def _sample(self) -> None:
        dice = torch.Generator()
        dice.seed()  # the reader's own random numbers stay as they are
        draws = torch.multinomial(self.scores()[0].softmax(-1), 100, replacement=True, generator=dice)
        self.drawn = ((self.prompt.value, self.values()), Counter(draws.tolist()))


def apply_settings(
    ids: torch.Tensor,
    logits: torch.Tensor,
    temperature: float = 1.0,
    top_k: int = 0,
    top_p: float = 1.0,
    min_p: float = 0.0,
    repetition_penalty: float = 1.0,
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Next-token logits (vocabulary,) as `generate` would sample from them, and what each filter cut, as masks.

    The processors are transformers' own, in the order of its `_get_logits_processor`. `ids`: (1, tokens).
    """
    chain = {
        "penalty": RepetitionPenaltyLogitsProcessor(repetition_penalty) if repetition_penalty != 1 else None,
        "temperature": TemperatureLogitsWarper(temperature) if temperature != 1 else None,
        "top-k": TopKLogitsWarper(top_k) if top_k else None,
        "top-p": TopPLogitsWarper(top_p) if top_p < 1 else None,
        "min-p": MinPLogitsWarper(min_p) if min_p else None,
    }
    scores, cut = logits[None], {}
    for name, processor in chain.items():
        if processor is not None:
            before, scores = scores, processor(ids, scores.clone())
            cut[name] = (torch.isinf(scores) & torch.isfinite(before))[0]
    return scores[0], cut


def _next_logits(model: Any, tokenizer: Any, prompt: str) -> tuple[torch.Tensor, torch.Tensor]:
    inputs = encode(model, tokenizer, prompt, 1)
    output = model.generate(
        **inputs, max_new_tokens=1, do_sample=False, output_logits=True, return_dict_in_generate=True
    )
    return inputs["input_ids"].cpu(), output.logits[0][0].float().cpu()
