"""Sphinx's settings for the site. What it reads is put together in build/docs/ by tools/site.py."""

import re
from pathlib import Path

from sphinx.application import Sphinx

import pitfalls

project = html_title = "Generation pitfalls"
author = "the authors of Generation pitfalls"
release = pitfalls.__version__
language = "en"
extensions = ["myst_nb", "sphinx.ext.autodoc"]
exclude_patterns = ["made", "notebooks"]  # what other pages include, and what readers download

nb_execution_mode = "off"  # the outputs are those that were saved
nb_code_prompt_show, nb_code_prompt_hide = "Show the code", "Hide the code"
myst_enable_extensions = ["attrs_block", "colon_fence"]
myst_heading_anchors = 3
default_role = "code"  # docstrings have single backticks
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
python_use_unqualified_type_names = True

html_theme = "furo"
html_baseurl = pitfalls.SITE
html_static_path = ["_static"]
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


def finish(app: Sphinx, error: Exception | None) -> None:
    if error is None and app.builder.format == "html":
        for path in Path(app.outdir, "_static").rglob("*.css"):
            path.write_text(logical(path.read_text(encoding="utf-8")), encoding="utf-8")


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
    app.connect("build-finished", finish)
