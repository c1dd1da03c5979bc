"""Signatures of functions and classes of a package, read from its files without importing them.

Python files and stubs are parsed; torch's operators are in the list that torchgen carries along.
"""

import ast
import re
import zipfile
from functools import cache
from pathlib import Path
from typing import Any

Signature = dict[str, Any]
"""`positional`: names in order; `needed`: how many of them; `keywords`: name -> needed; `more`, `any`."""

_SCHEMA = re.compile(r"^- func: (?P<name>\w+)(?:\.(?P<overload>\w+))?\((?P<rest>.*)$")


class Package:
    """A wheel, or a folder that packages are installed in."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self._zip = zipfile.ZipFile(place) if place.is_file() else None
        if self._zip is not None:
            self.files = frozenset(self._zip.namelist())
        self._trees: dict[str, ast.Module] = {}
        self._found: dict[str, list[Signature] | None] = {}
        self._defines: dict[str, str] = {}

    def has(self, path: str) -> bool:
        return path in self.files if self._zip else (self.place / path).is_file()

    def text(self, path: str) -> str:
        raw = self._zip.read(path) if self._zip else (self.place / path).read_bytes()
        return raw.decode("utf-8", "replace")

    def tree(self, path: str) -> ast.Module:
        if path not in self._trees:
            self._trees[path] = ast.parse(self.text(path))
        return self._trees[path]

    def python_files(self, package: str) -> list[str]:
        if self._zip:
            return sorted(
                n for n in self.files if n.startswith(package + "/") and n.endswith(".py")
            )
        found = (self.place / package).rglob("*.py")
        return sorted(str(path.relative_to(self.place)) for path in found)

    def signatures(self, name: str) -> list[Signature] | None:
        """Every way to call what has this full name; None where it is not found."""
        parts = name.split(".")
        if parts[:3] == ["torch", "ops", "aten"]:
            return self._operators().get(parts[3])
        # Its package imports everything by star, so that following those would read all models.
        first = self._anywhere(name) if len(parts) == 2 else None
        return first or self._python(name) or self._builtin(name) or self._anywhere(name)

    def _python(self, name: str, depth: int = 0) -> list[Signature] | None:
        if name not in self._found:
            self._found[name] = None  # whoever asks again on the way is going round in a circle
            self._found[name] = self._python_anew(name, depth)
        return self._found[name]

    def _python_anew(self, name: str, depth: int) -> list[Signature] | None:
        parts = name.split(".")
        for size in range(len(parts) - 1, 0, -1):
            base = "/".join(parts[:size])
            for path in (f"{base}.py", f"{base}/__init__.py", f"{base}.pyi"):
                found = self._in_file(path, parts[size:], depth) if self.has(path) else None
                if found:
                    return found
        return None

    def _in_file(self, path: str, attributes: list[str], depth: int) -> list[Signature] | None:
        if depth > 6:
            return None
        body: list[ast.stmt] = self.tree(path).body
        first, *rest = attributes
        if found := self._defined(path, body, first, rest, depth):
            return found
        module = path.removesuffix(".pyi").removesuffix(".py").removesuffix("/__init__")
        package = module if path.endswith("__init__.py") else module.rpartition("/")[0]
        for node in self._imports(path):
            where = package.split("/")
            where = where[: len(where) - node.level + 1] if node.level else []
            target = [*where, *(node.module.split(".") if node.module else [])]
            for one in node.names:
                if (one.asname or one.name) == first:
                    full = ".".join([*target, one.name, *rest])
                elif one.name == "*" and not module.startswith("transformers"):
                    full = ".".join([*target, first, *rest])
                else:
                    continue
                if ".".join(target) != module.replace("/", ".") and (
                    found := self._python(full, depth + 1)
                ):
                    return found
        return None

    def _imports(self, path: str) -> list[ast.ImportFrom]:
        waiting, found = list(self.tree(path).body), []
        while waiting:
            node = waiting.pop(0)
            if isinstance(node, ast.ImportFrom):
                found.append(node)
            elif isinstance(node, ast.If | ast.Try):
                waiting += [*node.body, *node.orelse]
        return found

    def _defined(
        self, path: str, body: list[ast.stmt], first: str, rest: list[str], depth: int
    ) -> list[Signature]:
        found: list[Signature] = []
        for node in body:
            if isinstance(node, ast.FunctionDef) and node.name == first and not rest:
                found.append(_of_function(node, bound=False))
            elif isinstance(node, ast.ClassDef) and node.name == first:
                return self._of_class(path, node, rest, depth)
            elif isinstance(node, ast.Assign) and _renames(node, first):
                found += self._in_file(path, [ast.unparse(node.value), *rest], depth + 1) or []
            elif isinstance(node, ast.If | ast.Try):
                found += self._defined(path, node.body, first, rest, depth)
        # An overloaded function has its own body last: any of them may bind.
        return found

    def _of_class(
        self, path: str, node: ast.ClassDef, rest: list[str], depth: int
    ) -> list[Signature]:
        wanted = (rest[0],) if rest else ("__init__", "__new__")
        for name in wanted:
            made = [n for n in node.body if isinstance(n, ast.FunctionDef) and n.name == name]
            if made:
                kinds = [{ast.unparse(d) for d in n.decorator_list} for n in made]
                return [
                    _of_function(n, bound="staticmethod" not in kind)
                    for n, kind in zip(made, kinds, strict=True)
                ]
        for base in node.bases:
            if isinstance(base, ast.Name | ast.Attribute):
                words = ast.unparse(base).split(".")
                if words[-1] == node.name:
                    continue
                if found := self._in_file(path, [*words, *rest], depth + 1):
                    return found
        fields = [n for n in node.body if isinstance(n, ast.AnnAssign)]
        if not rest and fields:
            names = [n.target.id for n in fields if isinstance(n.target, ast.Name)]
            needed = sum(n.value is None for n in fields)
            return [_signature(names, needed)]
        return [] if rest else [_signature([], 0)]

    def _builtin(self, name: str) -> list[Signature] | None:
        parts = name.split(".")
        if parts[0] != "torch":
            return None
        if len(parts) == 2:
            for path in ("torch/_C/_VariableFunctions.pyi", "torch/_C/__init__.pyi"):
                if self.has(path) and (found := self._in_file(path, parts[1:], 6)):
                    return [_with(one, "requires_grad", "out") for one in found]
        underscored = "_".join(parts[1:])
        found = self._operators().get(underscored) or self._operators().get(parts[-1])
        return [_with(one, "requires_grad", "out") for one in found] if found else None

    def _operators(self) -> dict[str, list[Signature]]:
        return _operators(self)

    def _anywhere(self, name: str) -> list[Signature] | None:
        """A package that imports its names late says only what they are called."""
        parts = name.split(".")
        if parts[0] != "transformers" or len(parts) < 2:
            return None
        if not self._defines:
            define = re.compile(r"^(?:class |def )?(\w+)(?= = [A-Z]\w+$|[(:])", re.MULTILINE)
            for path in self.python_files("transformers"):
                own = "/models/auto/" in path or "/models/" not in path
                if own and "/dummy_" not in path:
                    for defined in define.findall(self.text(path)):
                        self._defines.setdefault(defined, path)
        where = self._defines.get(parts[1])
        return None if where is None else self._in_file(where, parts[1:], 0)


def _renames(node: ast.Assign, name: str) -> bool:
    target = node.targets[0]
    same = isinstance(target, ast.Name) and target.id == name
    return same and isinstance(node.value, ast.Name) and node.value.id != name


@cache
def _operators(package: Package) -> dict[str, list[Signature]]:
    path = "torchgen/packaged/ATen/native/native_functions.yaml"
    found: dict[str, list[Signature]] = {}
    if not package.has(path):
        return found
    for line in package.text(path).splitlines():
        if (match := _SCHEMA.match(line)) is not None:
            found.setdefault(match["name"], []).append(_of_schema(match["rest"]))
    return found


def _of_schema(rest: str) -> Signature:
    inside = rest[: rest.rindex(") ->")]
    names: list[str] = []
    keywords: dict[str, bool] = {}
    needed, after = 0, False
    for part in _split(inside):
        if part == "*":
            after = True
            continue
        name, _, default = part.rsplit(" ", 1)[-1].partition("=")
        if after:
            keywords[name] = not default
        else:
            names.append(name)
            needed += not default
    return {
        "positional": names,
        "needed": needed,
        "keywords": keywords,
        "more": False,
        "any": False,
    }


def _split(text: str) -> list[str]:
    parts, level = [""], 0
    for letter in text:
        level += (letter in "([") - (letter in ")]")
        if letter == "," and level == 0:
            parts.append("")
        else:
            parts[-1] += letter
    return [part.strip() for part in parts if part.strip()]


def _signature(names: list[str], needed: int) -> Signature:
    return {"positional": names, "needed": needed, "keywords": {}, "more": False, "any": False}


def _with(one: Signature, *names: str) -> Signature:
    return {**one, "keywords": {**one["keywords"], **dict.fromkeys(names, False)}}


def _of_function(node: ast.FunctionDef, *, bound: bool) -> Signature:
    given = node.args
    names = [argument.arg for argument in (*given.posonlyargs, *given.args)]
    needed = len(names) - len(given.defaults)
    if bound:
        names, needed = names[1:], max(0, needed - 1)
    keywords = {
        argument.arg: default is None
        for argument, default in zip(given.kwonlyargs, given.kw_defaults, strict=True)
    }
    return {
        "positional": names,
        "needed": needed,
        "keywords": keywords,
        "more": given.vararg is not None,
        "any": given.kwarg is not None,
    }
