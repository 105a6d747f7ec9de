"""Helpers for the course *Generation pitfalls*: fetch the model, record a generate call, check it, draw it.

The public names are imported when first used, so `import pitfalls` is fast and loads no torch.
"""

from importlib import import_module

__version__ = "0.1.0"

_HOME = {
    "choose_model": "models",
    "fetch_model": "models",
    "ModelError": "models",
    "describe_setup": "models",
    "ZEPHYR_TEMPLATE": "models",
    "record": "calls",
    "Call": "calls",
    "Row": "calls",
    "Step": "calls",
    "check": "checks",
    "watch": "watching",
    "Report": "reports",
    "Finding": "rules",
    "PitfallError": "reports",
    "checks": "checks",
    "catalogue": "catalogue",
    "pictures": "pictures",
    "widgets": "widgets",
    "practice": "practice",
}
__all__ = list(_HOME)


def __getattr__(name: str):
    if name not in _HOME:
        raise AttributeError(f"pitfalls has no {name!r}; it has {', '.join(__all__)}")
    module = import_module(f"pitfalls.{_HOME[name]}")
    return module if name == _HOME[name] else getattr(module, name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
