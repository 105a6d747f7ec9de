"""Sphinx's settings for the site. What it reads is put together in build/docs/ by tools/site.py."""

import re
from functools import partial
from html import escape
from pathlib import Path

from sphinx.application import Sphinx

import pitfalls
from pitfalls.language import N_, SOURCE, _, folder, html_language
from pitfalls.language import language as chosen_language
from tools import translations

project = html_title = str(_("Generation pitfalls"))
author = "the authors of Generation pitfalls"
release = pitfalls.__version__
language = chosen_language()
extensions = ["myst_nb", "sphinx.ext.autodoc"]
exclude_patterns = ["made", "notebooks"]  # what other pages include, and what readers download

nb_render_markdown_format = "gfm"  # outputs may hold tables
nb_execution_mode = "off"  # the outputs are those that were saved
nb_code_prompt_show, nb_code_prompt_hide = _("Show the code"), _("Hide the code")
myst_enable_extensions = ["attrs_block", "colon_fence"]
myst_heading_anchors = 3
default_role = "code"  # docstrings have single backticks
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
python_use_unqualified_type_names = True

html_theme = "furo"
html_baseurl = pitfalls.SITE + folder()
html_static_path, templates_path = ["_static"], ["_templates"]
html_sidebars = {
    "**": [
        f"sidebar/{part}.html" for part in ("brand", "search", "languages", "scroll-start", "navigation", "scroll-end")
    ]
}
html_css_files = ["site.css"]
html_copy_source = html_domain_indices = html_show_copyright = False
html_show_search_summary = False  # it would ask a server for each page that was found
html_theme_options = {
    "source_repository": pitfalls.REPOSITORY,
    "light_css_variables": {"color-brand-primary": "#0b5394", "color-brand-content": "#0b5394"},
    "dark_css_variables": {"color-brand-primary": "#8ec5ff", "color-brand-content": "#8ec5ff"},
    "top_of_page_buttons": [],
}

# Left and right in the theme's CSS, as the beginning and the end of a line: the same here, and mirrored in Arabic.
SIDES = {"left": "start", "right": "end"}
LOGICAL = {
    r"\b(margin|padding|border)-(left|right)\b": "{}-inline-{}",
    r"(?<=[;{\s])()(left|right)(?=\s*:)": "{}inset-inline-{}",
    r"\b(float:\s*)(left|right)\b": "{}inline-{}",
    r"\b(text-align:\s*)(left|right)\b": "{}{}",
}


def logical(css: str) -> str:
    """The same style sheet, for either direction of writing."""
    for pattern, form in LOGICAL.items():
        css = re.sub(pattern, lambda found, form=form: form.format(found[1], SIDES[found[2]]), css)
    return css


# What the theme says in English only.
THEME = [
    N_("Toggle site navigation sidebar"),
    N_("Toggle table of contents sidebar"),
    N_("Toggle Light / Dark / Auto color theme"),
    N_("Light mode"),
    N_("Dark mode"),
    N_("Auto light/dark, in light mode"),
    N_("Auto light/dark, in dark mode"),
    N_("Skip to content"),
    N_("On this page"),
    N_("Back to top"),
    N_("Made with"),
    N_("Home"),
]


def _said(ours: str, found: re.Match) -> str:
    return f"{found[1]}{ours}{found[2]}"


def finish(app: Sphinx, error: Exception | None) -> None:
    if error is not None or app.builder.format != "html":
        return
    for path in Path(app.outdir, "_static").rglob("*.css"):
        path.write_text(logical(path.read_text(encoding="utf-8")), encoding="utf-8")
    if language == SOURCE:
        return
    for path in Path(app.outdir).rglob("*.html"):
        text = path.read_text(encoding="utf-8").replace(f' lang="{language}"', html_language(), 1)
        for english in THEME:
            place = rf'(?<=[>"])(\s*){re.escape(english)}(\s*)(?=[<"])'
            text = re.sub(place, partial(_said, escape(_(english))), text)
        path.write_text(text, encoding="utf-8")


def name_languages(app: Sphinx, page: str, template: str, context: dict[str, object], doctree: object) -> None:
    """The same page in the other languages: for readers, and for whoever searches."""
    up = "../" * (page.count("/") + bool(folder()))
    folders = {code: folder(code) for code in [SOURCE, *translations.languages()]}
    context["languages"] = [
        (code, translations.own_name(code), f"{up}{where}{page}.html", code == language)
        for code, where in folders.items()
    ]
    links = [*folders.items(), ("x-default", "")]
    context["metatags"] = str(context.get("metatags", "")) + "".join(
        f'<link rel="alternate" hreflang="{code}" href="{pitfalls.SITE}{where}{page}.html">\n' for code, where in links
    )


def mark_code(app: Sphinx, what: str, name: str, found: object, options: object, lines: list[str]) -> None:
    """What is indented in a docstring is code, and a line about `arguments` stands alone."""
    text = re.sub(r"\n\n(?=    )", "\n\n::\n\n", "\n".join(lines))
    lines[:] = re.sub(r"\n(?=(`\w+`(, )?)+: )", "\n\n", text).split("\n")


def name_levels(app: Sphinx, page: str, template: str, context: dict[str, object], doctree: object) -> None:
    """The sidebar's captions are headings, and assistive technology wants to know of which level."""
    tree = str(context.get("furo_navigation_tree", ""))
    context["furo_navigation_tree"] = tree.replace('role="heading"', 'role="heading" aria-level="2"')


def setup(app: Sphinx) -> None:
    app.connect("autodoc-process-docstring", mark_code)
    app.connect("html-page-context", name_levels, priority=900)  # after the theme has made it
    app.connect("html-page-context", name_languages)
    app.connect("build-finished", finish)
