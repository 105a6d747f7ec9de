"""Helpers for the course *Generation pitfalls*: fetch the model, record a generate call, check it, draw it.

The public names are imported when first used, so `import pitfalls` is fast and loads no torch.
"""

import logging
from importlib import import_module
from typing import TYPE_CHECKING, Any

from pitfalls.language import _
from pitfalls.language import language as language  # now: the function takes the place of its module in this namespace

__version__ = "0.2.0"
REPOSITORY = "https://github.com/generation-pitfalls/course"  # `make fork` points it elsewhere
SITE = "https://generation-pitfalls.github.io/course/"  # and where its pages are published

# What bitsandbytes logs on some CPUs: that a package it can do without would be faster. Said as soon as transformers is
# imported where there is peft, which imports it.
logging.getLogger("bitsandbytes.backends.cpu.ops").addFilter(
    lambda record: not str(record.msg).startswith("Failed to load CPU gemm_4bit_forward")
)

_HOME = {
    "choose_model": "model.choose",
    "fetch_model": "model.choose",
    "fetch_gguf": "model.choose",
    "describe_setup": "model.choose",
    "ZEPHYR_TEMPLATE": "model.choose",
    "ModelError": "model.fetch",
    "serve": "model.server",
    "Server": "model.server",
    "ServerError": "model.server",
    "record": "inspector.recording",
    "Call": "inspector.call",
    "Row": "inspector.rows",
    "Step": "inspector.rows",
    "check": "inspector.checking",
    "watch": "inspector.watching",
    "inspect_model": "inspector.checkpoint",
    "Checkpoint": "inspector.checkpoint",
    "Report": "inspector.report",
    "PitfallError": "inspector.report",
    "Finding": "inspector.report",
    "RULES": "inspector.rules",
    "catalogue": "inspector.catalogue",
    "pictures": "pictures",
    "widgets": "widgets",
    "practice": "practice",
}
__all__ = ["language", *_HOME]

if TYPE_CHECKING:  # the same names, for editors and type checkers
    from pitfalls import pictures as pictures
    from pitfalls import practice as practice
    from pitfalls import widgets as widgets
    from pitfalls.inspector import catalogue as catalogue
    from pitfalls.inspector.call import Call as Call
    from pitfalls.inspector.checking import check as check
    from pitfalls.inspector.checkpoint import Checkpoint as Checkpoint
    from pitfalls.inspector.checkpoint import inspect_model as inspect_model
    from pitfalls.inspector.recording import record as record
    from pitfalls.inspector.report import Finding as Finding
    from pitfalls.inspector.report import PitfallError as PitfallError
    from pitfalls.inspector.report import Report as Report
    from pitfalls.inspector.rows import Row as Row
    from pitfalls.inspector.rows import Step as Step
    from pitfalls.inspector.rules import RULES as RULES
    from pitfalls.inspector.watching import watch as watch
    from pitfalls.model.choose import ZEPHYR_TEMPLATE as ZEPHYR_TEMPLATE
    from pitfalls.model.choose import choose_model as choose_model
    from pitfalls.model.choose import describe_setup as describe_setup
    from pitfalls.model.choose import fetch_gguf as fetch_gguf
    from pitfalls.model.choose import fetch_model as fetch_model
    from pitfalls.model.fetch import ModelError as ModelError
    from pitfalls.model.server import Server as Server
    from pitfalls.model.server import ServerError as ServerError
    from pitfalls.model.server import serve as serve
else:

    def __getattr__(name: str):
        if name not in _HOME:
            raise AttributeError(_("pitfalls has no {name!r}; it has {names}", name=name, names=", ".join(__all__)))
        home = _HOME[name]
        module = import_module(f"pitfalls.{home}")
        return module if home.rpartition(".")[2] == name else getattr(module, name)


def load_ipython_extension(shell: Any) -> None:
    """`%load_ext pitfalls`: watch every cell, and report under it."""
    from pitfalls.inspector.notebook import load

    load(shell)


def unload_ipython_extension(shell: Any) -> None:
    from pitfalls.inspector.notebook import unload

    unload()


def __dir__() -> list[str]:
    return sorted({*__all__, "REPOSITORY", "SITE", *(name for name in globals() if name.startswith("__"))})
