"""The widgets on pages without a kernel: with scripts they live, without them their pictures and sentences stand."""

import re
from html import unescape

import pytest
import torch
from babel.messages import Catalog
from babel.messages.mofile import write_mo
from nbconvert.filters.strings import clean_html

import pitfalls
from pitfalls.widgets import Length, NextToken
from tests.helpers import tiny_llama
from tests.slow.browser.moves import MOVES, predict
from tools.lab import bad_pictures, script_time, slider, text

SIZES = [(1280, 900), (400, 800)]
THEMES = {"light": "background: #fff; color: #111", "dark": "background: #111; color: #eee"}
SLIDERS = {"03_generating": "step", "04_length": "max_new_tokens", "05_decoding_mode": "temperature"}
# Within each widget: whatever leaves the window, or hides a part of its text.
CUT = """roots => roots.flatMap(root => [...root.shadowRoot.querySelectorAll('*')].filter(element => {
    const {left, right, width} = element.getBoundingClientRect();
    return width && !element.closest('.scroll') && (left < -1 || right > innerWidth + 1);
}).map(element => `${element.tagName}.${element.className}`))"""
# A control of which a screen reader would not know the name.
NAMELESS = """root => [...root.shadowRoot.querySelectorAll('input, select, textarea, button')].filter(control =>
    !(control.labels?.length || control.textContent.trim() || control.ariaLabel)).map(control => control.outerHTML)"""
CONTRAST = """root => {
    const parse = colour => colour.match(/[\\d.]+/g).map(Number);
    const light = colour => parse(colour).slice(0, 3).map(c => c / 255)
        .map(c => c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
        .reduce((sum, c, n) => sum + c * [0.2126, 0.7152, 0.0722][n], 0);
    const ground = element => {
        for (; element; element = element.parentElement ?? element.getRootNode().host) {
            const colour = getComputedStyle(element).backgroundColor;
            if (parse(colour)[3] !== 0) return colour;
        }
    };
    return Math.min(...[...root.shadowRoot.querySelectorAll('label, p, .box, button, code, output, td, .number')]
        .filter(element => element.checkVisibility() && element.textContent.trim()).map(element => {
            const [a, b] = [light(getComputedStyle(element).color), light(ground(element))];
            return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
        }));
}"""


@pytest.mark.parametrize("name", [*MOVES, "prediction"])
def test_a_widget_answers_without_a_kernel(name, forms, web_page):
    with web_page(forms[name]) as page:
        root = page.locator(".pitfalls-play, .pitfalls-predict")
        assert root.count() == 1 and not page.locator("img").count(), "the still form is gone"
        MOVES.get(name, predict)(root, live=False)


def test_several_on_a_page_do_not_disturb_one_another(forms, web_page):
    other = forms["05_decoding_mode"].replace('"temperature":0.5', '"temperature":0.7')
    with web_page("".join([*forms.values(), forms["04_length"]]) + other) as page:
        roots = page.locator(".pitfalls-play, .pitfalls-predict")
        assert roots.count() == len(forms) + 1 + ('"temperature":0.7' in other and 1)
        before = roots.evaluate_all("roots => roots.map(root => root.shadowRoot.querySelector('.view').textContent)")
        slider(roots.nth(1), "max_new_tokens").fill("3")
        after = roots.evaluate_all("roots => roots.map(root => root.shadowRoot.querySelector('.view').innerHTML)")
        assert "max_new_tokens=3" in text(roots.nth(1)) and "max_new_tokens=20" in text(roots.nth(len(forms)))
        assert len(before) == len(after) and not page.evaluate("Object.keys(window).includes('render')")


def test_where_scripts_are_cut_out_the_picture_and_the_sentence_stand(shown, forms, web_page):
    """As JupyterLab without trust and GitHub do; nbviewer leaves scripts, and a printed page has had them."""
    cut = {name: re.sub(r"<script.*?</script>|\s(class|style|id|data-[\w-]+)=\"[^\"]*\"", "", html, flags=re.DOTALL)
           for name, html in forms.items()}  # fmt: skip
    for size in SIZES:
        with web_page("<style>img { max-width: 100% }</style>" + "".join(cut.values()), size) as page:
            pictures = page.locator("img")
            assert pictures.count() == len(MOVES) and not bad_pictures(pictures)
            assert all(len(alt) > 20 for alt in pictures.evaluate_all("them => them.map(it => it.alt)"))
            said = page.locator("body").inner_text()
            assert all(shown[name].summary() in said for name in MOVES)
            assert "What does `1 + 1` give?" in said and "Yes, 2." not in said
            page.get_by_text("Answer").click()
            assert "Right: 2. Yes, 2." in page.locator("details").inner_text()


def test_where_nothing_but_words_is_let_through_words_stand(shown, forms):
    for name in MOVES:
        assert shown[name].summary() in unescape(clean_html(forms[name].split("<script")[0]))


# --- the next token, against transformers ---

VALUES = """root => [...root.shadowRoot.querySelectorAll('.bars li')].map(row => {
    const style = row.querySelector('.track').style;
    return [Number(style.getPropertyValue('--own')), Number(style.getPropertyValue('--now'))];
})"""
SETTINGS = {
    "temperature": (0.1, 3, 0.05),
    "top_k": (0, 50, 1),
    "top_p": (0.05, 1, 0.01),
    "min_p": (0, 0.5, 0.01),
    "repetition_penalty": (1, 2, 0.05),
}
LABELS = ["temperature", "top-k (0: off)", "top-p (1: off)", "min-p (0: off)", "repetition penalty"]
PROMPTS = ["I am a cat.", "The capital of Japan is", "Green, green, green,", "Once upon a time there was a"]


def random_settings(dice: torch.Generator) -> dict[str, float]:
    """Each setting off half of the time, else anywhere on its slider."""
    off = {"temperature": 1, "top_k": 0, "top_p": 1, "min_p": 0, "repetition_penalty": 1}

    def value(name: str) -> float:
        low, high, step = SETTINGS[name]
        if torch.rand((), generator=dice) < 0.5:
            return off[name]
        places = round((high - low) / step)
        return round(low + step * torch.randint(places + 1, (), generator=dice).item(), 2)

    return {name: int(value(name)) if name == "top_k" else value(name) for name in SETTINGS}


def deviations(widget: NextToken, root, rounds: int, dice: torch.Generator) -> list[tuple[float, dict]]:
    """For random settings, by how much a bar in the page differs at most from transformers' own processors."""
    _, logits = widget.logits()
    own, order = logits.softmax(-1), logits.topk(12).indices
    found = []
    for _ in range(rounds):
        chosen = random_settings(dice)
        for label, (name, value) in zip(LABELS, chosen.items(), strict=True):
            slider(root, label).fill(str(value))
            setattr(widget, name, value)
        shown = torch.tensor(root.evaluate(VALUES), dtype=torch.float64)
        now = widget.scores().double().softmax(-1)
        expected = torch.stack([own.double()[order], now[order]], 1)
        expected = torch.cat([expected, 1 - expected.sum(0, keepdim=True)])
        kept = int(widget.scores().isfinite().sum())
        counted = re.search(r"(about )?([\d,]+) of", text(root))
        told = int(counted[2].replace(",", ""))
        assert abs(told - kept) <= 0.01 * kept + bool(counted[1]), (chosen, told, kept)
        found.append(((shown - expected).abs().max().item(), chosen))
    return found


@pytest.mark.parametrize("prompt", PROMPTS)
def test_every_setting_gives_what_transformers_gives(prompt, model, tokenizer, web_page):
    widget = NextToken(model, tokenizer, prompt)
    dice = torch.Generator().manual_seed(PROMPTS.index(prompt))
    with web_page(widget._repr_mimebundle_()[0]["text/html"]) as page:
        found = deviations(widget, page.locator(".pitfalls-play"), 60, dice)
    worst = max(found, key=lambda pair: pair[0])
    print(f"{prompt!r}: at most {100 * worst[0]:.4f} percentage points, at {worst[1]}")
    assert worst[0] < 0.001, worst


@pytest.mark.parametrize("sharpness", [1, 100])
def test_also_where_all_tokens_are_alike_or_one_has_all(sharpness, tokenizer, web_page):
    widget = NextToken(tiny_llama(sharpness=sharpness), tokenizer, PROMPTS[0])
    with web_page(widget._repr_mimebundle_()[0]["text/html"]) as page:
        found = deviations(widget, page.locator(".pitfalls-play"), 40, torch.Generator().manual_seed(sharpness))
    assert max(deviation for deviation, _ in found) < 0.001


# --- speed, keyboard, themes, directions ---


@pytest.mark.parametrize("name", SLIDERS)
def test_a_slider_moves_within_a_frame(name, forms, web_page):
    with web_page(forms[name]) as page:
        median = script_time(page.locator(".pitfalls-play"), SLIDERS[name])
    print(f"{SLIDERS[name]}: {median * 1e3:.1f} ms of script at the median")
    assert median < 0.016


def test_a_widget_is_used_with_the_keyboard_alone(forms, web_page):
    with web_page(forms["05_decoding_mode"]) as page:
        root = page.locator(".pitfalls-play")
        reached = []
        for _ in range(8):
            page.keyboard.press("Tab")
            reached.append(page.evaluate("document.activeElement.shadowRoot?.activeElement?.labels?.[0]?.innerText"))
        assert reached[1:6] == LABELS
        page.keyboard.press("Shift+Tab")
        page.keyboard.press("Space")
        assert "×" in text(root)
        slider(root, "top-k (0: off)").focus()
        page.keyboard.press("ArrowRight")
        assert "top_k=1: " in text(root) and "1 of 49,152" in text(root)
    with web_page(forms["06_padding_side"]) as page:
        root = page.locator(".pitfalls-play")
        root.get_by_label("left", exact=True).focus()
        page.keyboard.press("ArrowDown")
        assert "Padding right" in text(root)


def test_a_screen_reader_knows_every_control_and_hears_what_changes(forms, web_page):
    for html in forms.values():
        with web_page(html) as page:
            root = page.locator(".pitfalls-play, .pitfalls-predict")
            assert root.evaluate(NAMELESS) == []
            assert root.locator("[aria-live=polite]").count() >= 1 and root.locator("[role=alert]").count() == 1
            assert root.locator("fieldset").count() == 1


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("direction", ["ltr", "rtl"])
@pytest.mark.parametrize("size", SIZES, ids=lambda size: size[0])
def test_everything_can_be_read(theme, direction, size, forms, web_page):
    with web_page("".join(forms.values()), size, direction, THEMES[theme]) as page:
        roots = page.locator(".pitfalls-play, .pitfalls-predict")
        assert roots.evaluate_all(CUT) == []
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "wider than the page"
        for n in range(roots.count()):
            assert roots.nth(n).evaluate(CONTRAST) >= 4.5
        places = "them => them.map(it => it.getBoundingClientRect().x)"
        label, field = (page.locator(f"label:has(> textarea) {part}").first for part in ("span", "textarea"))
        assert (label.bounding_box()["x"] < field.bounding_box()["x"]) == (direction == "ltr"), "mirrored"
        boxes = roots.nth(1).locator(".view > div").first.locator(".box").evaluate_all(places)[:2]
        assert boxes[0] < boxes[1], "but not the text of the model"


def test_who_wants_no_motion_gets_none(forms, web_page):
    speed = "it => getComputedStyle(it).transitionDuration"
    for wanted, seconds in {"no-preference": "0.15s, 0.15s", "reduce": "0s"}.items():
        with web_page(forms["05_decoding_mode"], reduced_motion=wanted) as page:
            assert page.locator(".now").first.evaluate(speed) == seconds


@pytest.fixture
def arabic(tmp_path, monkeypatch):
    """A language from right to left: two messages of it, one with the words for each kind of number."""
    used_up = "max_new_tokens={budget}: {n} new tokens, stopped by {reason}."
    catalogue = Catalog(locale="ar")
    catalogue.add("row", "الصف")
    kinds = ("صفر", "واحد", "اثنان", "قلة", "كثرة", "غير")
    catalogue.add((used_up, used_up), [f"{kind}: {{n}} ({{reason}})" for kind in kinds])
    file = tmp_path / "ar-XB" / "LC_MESSAGES" / "pitfalls.mo"
    file.parent.mkdir(parents=True)
    with file.open("wb") as stream:
        write_mo(stream, catalogue)
    monkeypatch.setenv("PITFALLS_LOCALE", str(tmp_path))
    pitfalls.language("ar-XB")
    yield
    pitfalls.language("en")


@pytest.mark.parametrize("size", SIZES, ids=lambda size: size[0])
def test_a_widget_mirrors_for_its_own_language_and_says_numbers_as_it_does(size, arabic, shown, web_page):
    widget = Length(shown["04_length"].call, shown["04_length"].tokenizer)
    said = {1: "واحد", 2: "اثنان", 5: "قلة", 12: "كثرة"}
    with web_page(widget._repr_mimebundle_()[0]["text/html"], size) as page:
        root = page.locator(".pitfalls-play")
        assert root.evaluate("root => [root.lang, root.dir]") == ["ar-XB", "rtl"]
        label, field = (root.locator(part).bounding_box()["x"] for part in ("label:has(select) span", "select"))
        assert label > field and root.evaluate_all(CUT) == []
        for new, word in said.items():
            slider(root, "max_new_tokens").fill(str(new))
            widget.budget = new
            summary = root.locator(".summary").inner_text()
            assert summary == widget.summary()
            assert summary.startswith(f"{word}: \u2068{new}\u2069 (\u2068length\u2069) ")
