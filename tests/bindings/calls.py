"""Every call that luthier makes into a library, by its full name, as the source is written.

Calls of methods on values (`tensor.sum()`) are not among them: their owner is not known to a reader.
"""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

LIBRARIES = ("torch", "transformers", "bitsandbytes")


@dataclass(frozen=True)
class Written:
    """A call as it stands: what it calls, and with which arguments.

    Args:
        positional: How many are given by place; None where some come unpacked.
        names: Those given by name.
        open: Whether further names come unpacked.
    """

    name: str
    positional: int | None
    names: tuple[str, ...]
    open: bool
    where: str


def written_calls(source: Path) -> list[Written]:
    """Of all files under a folder, sorted by name."""
    found = [call for path in sorted(source.rglob("*.py")) for call in _of_file(path, source)]
    return sorted(found, key=lambda call: (call.name, call.where))


def _of_file(path: Path, source: Path) -> Iterator[Written]:
    tree = ast.parse(path.read_text("utf-8"))
    known = _names(tree)
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        name = _dotted(node.func, known)
        if name is None or name.split(".")[0] not in LIBRARIES or "." not in name:
            continue
        stars = any(isinstance(given, ast.Starred) for given in node.args)
        yield Written(
            name,
            None if stars else len(node.args),
            tuple(word.arg for word in node.keywords if word.arg),
            any(word.arg is None for word in node.keywords),
            f"{path.relative_to(source)}:{node.lineno}",
        )


def _names(tree: ast.Module) -> dict[str, str]:
    """What a name of the file stands for: imports, and what is only another name of something."""
    known: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for one in node.names:
                known[one.asname or one.name.split(".")[0]] = (
                    one.name if one.asname else one.name.split(".")[0]
                )
        elif isinstance(node, ast.ImportFrom) and node.module:
            for one in node.names:
                known[one.asname or one.name] = f"{node.module}.{one.name}"
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and isinstance(target := node.targets[0], ast.Name):
            name = _dotted(node.value, known) or ""
            if name.split(".")[0] in LIBRARIES:
                known.setdefault(target.id, name)
    return known


def _dotted(node: ast.expr, known: dict[str, str]) -> str | None:
    if isinstance(node, ast.Name):
        return known.get(node.id)
    if isinstance(node, ast.Attribute):
        owner = _dotted(node.value, known)
        return None if owner is None else f"{owner}.{node.attr}"
    # `luthier.kernels.bnb.bitsandbytes()` is the package.
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        return "bitsandbytes" if node.func.id == "bitsandbytes" else None
    return None
