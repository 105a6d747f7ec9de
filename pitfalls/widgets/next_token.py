"""The distribution over the next token under temperature, filters and penalty."""

from typing import Any

import torch
from traitlets import Float, Int, Unicode
from transformers import (
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from pitfalls import pictures
from pitfalls.language import N_, _, counted, nN_
from pitfalls.pictures.drawing import Picture, percent, short, token_text
from pitfalls.widgets.play import Play, encode, module, signs

SHOWN = 12  # tokens with a bar of their own
KEPT = 300  # of which the page gets the logits; of the others it gets a histogram
BINS = 400
WORDS: dict[str, Any] = {
    "alone": nN_(
        "'{token}' gets {now}; {n} of {all} tokens can be drawn.",
        "'{token}' gets {now}; {n} of {all} tokens can be drawn.",
    ),
    "changed": nN_(
        "{settings}: '{token}' gets {now} (the model alone: {own}); {n} of {all} tokens can be drawn.",
        "{settings}: '{token}' gets {now} (the model alone: {own}); {n} of {all} tokens can be drawn.",
    ),
    "about": nN_(  # where the page doesn't know the number to the last token
        "{settings}: '{token}' gets {now} (the model alone: {own}); about {n} of {all} tokens can be drawn.",
        "{settings}: '{token}' gets {now} (the model alone: {own}); about {n} of {all} tokens can be drawn.",
    ),
    "cut": N_("cut by {filter}"),
    "cut_all": N_("cut by the filters"),
    "others": nN_("{n} others", "{n} others"),
    "prompt": N_("prompt"),
    "sample": N_("sample 100"),
    "needs_notebook": N_("Another prompt is for the model to answer: for that, run this cell in a notebook."),
}


class NextToken(Play):
    """The distribution over the next token, and what temperature, the filters and the penalty make of it.

    The dashed outline is the model's own probability. *sample 100* draws from what is left. The settings can be given
    with the prompt, as `temperature=0.5`.
    """

    _esm = module(__package__, "next_token")
    prompt = Unicode().tag(sync=True, asks=True)
    temperature = Float(1, min=0.1, max=3).tag(sync=True, step=0.05, label=N_("temperature"))
    top_k = Int(0, min=0, max=50).tag(sync=True, step=1, label=N_("top-k (0: off)"))
    top_p = Float(1, min=0.05, max=1).tag(sync=True, step=0.01, label=N_("top-p (1: off)"))
    min_p = Float(0, min=0, max=0.5).tag(sync=True, step=0.01, label=N_("min-p (0: off)"))
    repetition_penalty = Float(1, min=1, max=2).tag(sync=True, step=0.05, label=N_("repetition penalty"))

    def __init__(self, model: Any, tokenizer: Any, prompt: str = "I am a cat.", **settings: float):
        self.model, self.tokenizer = model, tokenizer
        sliders = {name: trait for name, trait in vars(NextToken).items() if isinstance(trait, Float | Int)}  # in order
        self.off = {name: trait.default_value for name, trait in sliders.items()}  # what changes nothing
        ranges = {
            name: {"label": it.metadata["label"], "min": it.min, "max": it.max, "step": it.metadata["step"]}
            for name, it in sliders.items()
        }
        super().__init__(WORDS | {"sliders": ranges, "off": self.off}, prompt=prompt, **settings)

    def logits(self) -> tuple[torch.Tensor, torch.Tensor]:
        """The prompt's ids (1, tokens), and the model's logits for the next token, (vocabulary,)."""
        return self._ask(self.prompt, lambda: _next_logits(self.model, self.tokenizer, self.prompt))

    def scores(self) -> torch.Tensor:
        """Those logits after the settings, by transformers' own processors, in the order of `generate`."""
        ids, logits = self.logits()
        chain = [
            RepetitionPenaltyLogitsProcessor(self.repetition_penalty) if self.repetition_penalty != 1 else None,
            TemperatureLogitsWarper(self.temperature) if self.temperature != 1 else None,
            TopKLogitsWarper(self.top_k) if self.top_k else None,
            TopPLogitsWarper(self.top_p) if self.top_p < 1 else None,
            MinPLogitsWarper(self.min_p) if self.min_p else None,
        ]
        scores = logits[None].clone()
        for processor in filter(None, chain):
            scores = processor(ids, scores)
        return scores[0]

    def summary(self) -> str:
        own, scores = self.logits()[1].softmax(-1), self.scores()
        now = scores.softmax(-1)
        best = now.argmax().item()
        kept = int(torch.isfinite(scores).sum())
        said = {"token": signs(self.tokenizer.decode([best])), "now": percent(now[best].item())}
        said |= {"n": f"{kept:,}", "all": f"{len(scores):,}"}
        changed = {name: getattr(self, name) for name, off in self.off.items() if getattr(self, name) != off}
        if not changed:
            return counted(WORDS["alone"], kept, **said)
        settings = ", ".join(f"{name}={value:g}" for name, value in changed.items())
        return counted(WORDS["changed"], kept, own=percent(own[best].item()), settings=settings, **said)

    def figure(self) -> Picture:
        logits, scores = self.logits()[1], self.scores()
        same = torch.equal(scores, logits)
        panels = logits if same else {_("the model alone"): logits, _("with these settings"): scores}
        title = f"{short(self.prompt, 100)} …\n{self.summary()}"
        return pictures.next_token(panels, self.tokenizer, top=SHOWN, title=title)

    def _data(self) -> dict[str, Any]:
        """Logits of the likeliest tokens and of the prompt's own, which the penalty changes; of the rest, bins."""
        ids, logits = self.logits()
        prompted = sorted(set(ids[0].tolist()))
        kept = list(dict.fromkeys([*logits.topk(min(KEPT, len(logits))).indices.tolist(), *prompted]))
        others = torch.ones_like(logits, dtype=torch.bool)
        others[kept] = False
        return {
            "size": len(logits),
            "shown": min(SHOWN, len(logits)),
            "texts": [signs(token_text(self.tokenizer, token_id)) for token_id in kept],
            "logits": [round(logit, 4) for logit in logits[kept].tolist()],
            "seen": [kept.index(token_id) for token_id in prompted],
            "rest": _histogram(logits[others & torch.isfinite(logits)]),
        }


def _histogram(logits: torch.Tensor) -> dict[str, Any]:
    """Of each bin, from `low` on: how many logits it has, and where their mean lies, in hundredths of its width."""
    if not len(logits):
        return {"low": 0, "width": 1, "counts": [], "means": []}
    low = logits.min().item()
    width = (logits.max().item() - low) / BINS or 1
    places = (logits.double() - low) / width
    bins = places.long().clamp(0, BINS - 1)
    counts = bins.bincount(minlength=BINS)
    means = bins.bincount(places - bins, minlength=BINS) / counts.clamp(1)
    return {"low": low, "width": width, "counts": counts.tolist(), "means": (100 * means).round().int().tolist()}


def _next_logits(model: Any, tokenizer: Any, prompt: str) -> tuple[torch.Tensor, torch.Tensor]:
    inputs = encode(model, tokenizer, prompt, 1)
    output = model.generate(
        **inputs, max_new_tokens=1, do_sample=False, output_logits=True, return_dict_in_generate=True
    )
    return inputs["input_ids"].cpu(), output.logits[0][0].float().cpu()
