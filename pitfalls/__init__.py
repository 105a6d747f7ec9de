"""Helpers for the course *Generation pitfalls*: fetch the model, record a generate call, check it, draw it.

The public names are imported when first used, so `import pitfalls` is fast and loads no torch.
"""

from importlib import import_module

__version__ = "0.1.0"
REPOSITORY = "https://github.com/generation-pitfalls/course"  # `make fork` points it elsewhere

_HOME = {
    "choose_model": "model.choose",
    "fetch_model": "model.choose",
    "describe_setup": "model.choose",
    "ZEPHYR_TEMPLATE": "model.choose",
    "ModelError": "model.fetch",
    "record": "inspector.recording",
    "Call": "inspector.call",
    "Row": "inspector.rows",
    "Step": "inspector.rows",
    "check": "inspector.checking",
    "watch": "inspector.watching",
    "Report": "inspector.report",
    "PitfallError": "inspector.report",
    "Finding": "inspector.report",
    "RULES": "inspector.rules",
    "catalogue": "inspector.catalogue",
    "pictures": "pictures",
    "widgets": "widgets",
    "practice": "practice",
}
__all__ = list(_HOME)


def __getattr__(name: str):
    if name not in _HOME:
        raise AttributeError(f"pitfalls has no {name!r}; it has {', '.join(__all__)}")
    home = _HOME[name]
    module = import_module(f"pitfalls.{home}")
    return module if home.rpartition(".")[2] == name else getattr(module, name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
