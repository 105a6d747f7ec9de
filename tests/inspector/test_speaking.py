"""The inspector in another language: words are looked up, code stays, each line says from where it is read."""

import importlib

import pytest
from babel.messages import Catalog
from babel.messages.mofile import write_mo

import pitfalls
from pitfalls.inspector.report import SEVERITIES
from pitfalls.language import directed

LEFT, RIGHT, ISOLATE, END = "\u2066", "\u2067", "\u2068", "\u2069"
FINDING = pitfalls.Finding(
    "padding-side", "error", f"قبل {ISOLATE}{'long ' * 30}{END} بعد", "a = 1\n\nb = 2", "06_padding_side"
)
SAID = {
    "error": "خطأ",
    "{severity}: {rule}": "{severity}: {rule}",
    "fix:": "الحل:",
    "more:": "المزيد:",
    "more": "المزيد",
    "No pitfall found.": "لا شيء.",
}


@pytest.fixture
def arabic(tmp_path, monkeypatch):
    language = importlib.import_module("pitfalls.language")
    catalog = Catalog(locale="ar")
    for message, translation in SAID.items():
        catalog.add(message, translation)
    (tmp_path / "ar" / "LC_MESSAGES").mkdir(parents=True)
    with (tmp_path / "ar" / "LC_MESSAGES" / "pitfalls.mo").open("wb") as file:
        write_mo(file, catalog)
    monkeypatch.setenv("PITFALLS_LOCALE", str(tmp_path))
    monkeypatch.setattr(language, "_chosen", None)
    language._catalogue.cache_clear()
    assert pitfalls.language("ar") == "ar"
    yield
    language._catalogue.cache_clear()


def test_a_report_is_read_from_the_right_and_its_code_from_the_left(arabic):
    lines = str(pitfalls.Report([FINDING])).splitlines()
    code = [line for line in lines if not line.startswith(RIGHT)]
    assert [line.strip() for line in code] == ["a = 1", "", "b = 2"]
    for line in set(lines) - set(code):
        assert line.endswith(END) and sum(map(line.count, (LEFT, RIGHT, ISOLATE))) == line.count(END), (
            "what begins, ends"
        )
    assert lines[0] == f"{RIGHT}{ISOLATE}خطأ{END}: {ISOLATE}padding-side{END}{END}" and "الحل:" in lines[-5]
    assert max(map(len, lines)) <= 100 and FINDING.link in lines[-1]
    assert str(pitfalls.Report()) == f"{RIGHT}لا شيء.{END}"


def test_a_report_as_html_names_its_language_and_the_direction_of_code(arabic):
    html = pitfalls.Report([FINDING])._repr_html_()
    assert html.startswith('<table lang="ar" dir="rtl"') and '<pre dir="ltr"' in html and ">خطأ<" in html
    assert pitfalls.Report()._repr_html_() == '<div lang="ar" dir="rtl"><em>لا شيء.</em></div>'


def test_data_stay_english(arabic):
    assert pitfalls.Report([FINDING]).as_dicts()[0]["severity"] == "error" and SEVERITIES[0] == "error"


def test_english_has_no_signs_of_direction():
    assert directed("one\ntwo") == "one\ntwo" and 'dir="' not in pitfalls.Report([FINDING])._repr_html_()


def test_the_function_and_its_module_share_a_name():
    from pitfalls.language import _

    assert pitfalls.language() == "en" and _("error") == "error" and "language" in pitfalls.__all__
