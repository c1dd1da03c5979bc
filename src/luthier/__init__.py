"""luthier fine-tunes large language models: `luthier.train(...)`, `luthier.load(...)`."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from luthier.errors import LuthierError
    from luthier.recipes.api import Run, compare, evaluate, export, load, train
    from luthier.recipes.before.front import advise, check, fix, plan

    __version__: str

__all__ = [
    "LuthierError",
    "Run",
    "__version__",
    "advise",
    "check",
    "compare",
    "evaluate",
    "export",
    "fix",
    "load",
    "plan",
    "train",
]

_HOMES = {"LuthierError": "luthier.errors"} | dict.fromkeys(
    ("plan", "advise", "check", "fix"), "luthier.recipes.before.front"
)


def __dir__() -> list[str]:
    """What a name can be completed to: nothing is imported for it."""
    return __all__


def __getattr__(name: str) -> object:
    """Public names are imported when first used, so that light parts stay free of torch."""
    if name not in __all__:
        raise AttributeError(f"module 'luthier' has no attribute {name!r}")
    if name == "__version__":
        from importlib.metadata import version

        return version("luthier")
    from importlib import import_module

    return getattr(import_module(_HOMES.get(name, "luthier.recipes.api")), name)
