"""What the widgets share: one ES module for all surroundings, forms for pages that run none, errors that they say."""

import base64
import io
import json
import re
from collections.abc import Callable, Hashable
from functools import cache
from hashlib import sha256
from html import escape
from importlib.resources import files
from typing import Any

import anywidget
import traitlets
from PIL import Image

from pitfalls.inspector.call import Call
from pitfalls.language import N_, _, counted, directed, html_language, isolated, language, right_to_left
from pitfalls.pictures.drawing import BAR, BAR_CHOSEN, SIGNS, STYLES, Picture, token_text
from pitfalls.silence import silenced

WORDS = {"working": N_("the model is at work …")}
HINT = N_("Run this cell to move the controls.")
# A number of each kind that languages have words for, by the name that browsers give the kind.
KINDS = {"zero": 0, "one": 1, "two": 2, "few": 3, "many": 11, "other": 100}


class Play(anywidget.AnyWidget):
    """What the widgets share. JavaScript draws `data` under the values of the controls; Python asks the model.

    A widget has `_esm`, its module; `_data()`, all that it can show until a trait tagged `asks` changes; `summary()`,
    one sentence about its state; and `figure()`, its state as a picture. Its `words` are in the language that is chosen
    when it is made; those that depend on a number are given by `nN_`.
    """

    data = traitlets.Dict().tag(sync=True)
    words = traitlets.Dict().tag(sync=True)
    problem = traitlets.Unicode().tag(sync=True)

    def __init__(self, words: dict[str, Any], **controls: Any):
        self.answers: dict[Hashable, Any] = {}
        page = {"lang": language()} | ({"dir": "rtl"} if right_to_left() else {})
        super().__init__(words=_open(WORDS | words) | {"page": page}, **controls)
        if asking := self.trait_names(asks=True):
            self.observe(lambda change: self._run(), names=asking)
        self._run()

    def summary(self) -> str:
        raise NotImplementedError

    def figure(self) -> Picture:
        raise NotImplementedError

    def _data(self) -> dict[str, Any]:
        raise NotImplementedError

    def _run(self, action: Callable[[], Any] = lambda: None) -> None:
        """Act, and make the data again; what goes wrong is said in the place of the view."""
        try:
            with self.hold_sync(), silenced():
                action()
                self.data = self._data()
                self.problem = ""
        except Exception as error:  # a callback has no cell that could show it
            self.problem = explained(error)
        self.send({"done": True})

    def _ask(self, state: Hashable, compute: Callable[[], Any]) -> Any:
        """What the model says for this state; it works once for each."""
        if state not in self.answers:
            self.answers[state] = compute()
        return self.answers[state]

    def _repr_mimebundle_(self, **kwargs: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        live, about = super()._repr_mimebundle_(**kwargs) or ({}, {})
        saved = self._saved()
        alts = {"image/png": {"alt": self.summary()}} if "image/png" in saved else {}
        return live | saved, about | alts

    def _saved(self) -> dict[str, str]:
        """The forms beside the live one: as HTML with scripts, as a picture, in words."""
        if self.problem:
            return {"text/plain": directed(_(HINT))}
        said, figure = self.summary(), self.figure()
        drawn = io.BytesIO()
        figure.savefig(drawn, dpi=100, facecolor="white")
        picture = base64.b64encode(few_colours(drawn.getvalue())).decode()
        still = f'<p><img src="data:image/png;base64,{picture}" alt="{escape(figure.alt)}"></p><p>{escape(said)}</p>'
        return {"text/html": self._page(still), "image/png": picture, "text/plain": directed(f"{said} ({_(HINT)})")}

    def _page(self, still: str) -> str:
        """The widget for a page without a kernel: `still` stands there until the script runs, or where none does."""
        ours = set(self.trait_names(sync=True)) - set(anywidget.AnyWidget.class_trait_names())
        state = {name: getattr(self, name) for name in sorted(ours) if name[0] != "_"}
        text = json.dumps(state, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")
        name = sha256(text.encode()).hexdigest()[:12]
        script = f'{self._esm}\nonPage("{name}", {text}, render);'
        place = f'<div data-pitfalls="{name}"{html_language()}>{still}</div>'
        return f'{place}\n<script type="module">\n{script}\n</script>'


def _open(words: Any) -> Any:
    """Words in the chosen language, their places left to JavaScript; those of `nN_` for each kind of number."""
    if isinstance(words, dict):
        return {name: _open(each) for name, each in words.items()}
    if isinstance(words, str):
        return _(words, **_places(words))
    if isinstance(words, tuple):
        forms = {kind: counted(words, n, **_places(words[1])) for kind, n in KINDS.items()}
        return {kind: form for kind, form in forms.items() if kind == "other" or form != forms["other"]}
    return words


def _places(words: str) -> dict[str, str]:
    """Each place in a sentence, as what fills it: so it stays open."""
    return {name: f"{{{name}}}" for name in re.findall(r"{(\w+)}", words)}


def explained(error: Exception) -> str:
    """What a widget says of an error; one that isn't ours keeps its English and its order."""
    return str(error) if type(error) is ValueError else isolated(f"{type(error).__name__}: {error}")


@cache
def module(package: str, name: str) -> str:
    """The ES module `name` of a package, with the style and what all share in front of it: it imports nothing."""
    ours = files(__package__)
    style = _colours() + re.sub(r"/\*.*?\*/\s*", "", ours.joinpath("widgets.css").read_text("utf-8"), flags=re.DOTALL)
    parts = [ours.joinpath("shared.js"), files(package).joinpath(f"{name}.js")]
    text = "\n".join([f"const STYLE = {json.dumps(style)};", *(part.read_text("utf-8") for part in parts)])
    return re.sub(r"^\s*(//.*\n)?", "", text, flags=re.MULTILINE)  # each saved output carries it


def _colours() -> str:
    """Those of the pictures, as CSS: of bars, and of each kind of box."""
    rules = [f":host {{ --bar: {BAR}; --taken: {BAR_CHOSEN} }}"]
    for name, style in STYLES.items():
        ground = "var(--hatch)" if "hatch" in style else style["facecolor"]
        border = f"1px {'dashed' if 'linestyle' in style else 'solid'} {style['edgecolor']}"
        ink = "#fff" if name == "end" else "#000"
        rules.append(f".{name} {{ background: {ground}; border: {border}; color: {ink} }}")
    return "\n".join(rules) + "\n"


def few_colours(png: bytes) -> bytes:
    """The same picture in 64 colours: all that a figure needs, and a third of the size."""
    small = io.BytesIO()
    Image.open(io.BytesIO(png)).convert("RGB").quantize(64).save(small, format="png", optimize=True)
    return small.getvalue()


def signs(text: str) -> str:
    """Spaces and line breaks as signs that can be seen, as in the pictures; a browser has letters that those lack."""
    return "".join(SIGNS.get(letter, letter) for letter in text)


def tokens(tokenizer: Any, ids: list[int], style: str) -> list[tuple[str, str]]:
    """Each as (text, style), a name of `STYLES` or one of `widgets.css`; a special token is one whatever else it is."""
    special = set(tokenizer.all_special_ids)
    return [(signs(token_text(tokenizer, n)), "special" if n in special else style) for n in ids]


def encode(model: Any, tokenizer: Any, text: str, new: int) -> Any:
    """The prompt as inputs on the model's device, where `new` more tokens fit into the window."""
    if not text:
        raise ValueError(_("The prompt is empty: write something for the model to go on with."))
    inputs = tokenizer(text, return_tensors="pt").to(model.device)
    check_window(model, inputs["input_ids"].shape[1] + new)
    return inputs


def check_window(model: Any, tokens: int) -> None:
    window = Call(model).window
    if window and tokens > window:
        told = N_("With its answer this makes {tokens:,} tokens; the model's window is {window:,}. Shorten it.")
        raise ValueError(_(told, tokens=tokens, window=window))
