"""A file of settings, YAML or JSON, as a list of what it says and on which line.

`1e-4` is a number, `no` is a word, a name given twice is refused, and nothing but plain values is
ever constructed.  Neither dates nor octal or sexagesimal numbers exist: `2024-01-01`, `010` and
`12:30` are words.
"""

import json
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from luthier.bounded import decode
from luthier.errors import ConfigFileError
from luthier.limits import SETTING_NAMES, YAML_BYTES, YAML_DEPTH
from luthier.units import format_bytes

_ROWS = (".jsonl", ".ndjson", ".csv", ".tsv", ".txt", ".parquet")
TAGS = ("null", "bool", "int", "float", "str", "seq", "map")
EXAMPLE = "model: starter\ndataset: rows.jsonl"


class Given(NamedTuple):
    """One setting as somebody wrote it."""

    name: str
    value: Any
    where: str  # "run.yaml line 4", "--lora_dim"


class _Loader(yaml.SafeLoader):
    """Plain values only, by one rule for every value."""

    depth = 0

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[object, object]:
        if not all(isinstance(key, yaml.ScalarNode) for key, _ in node.value):
            raise ValueError(f"a name on line {node.start_mark.line + 1} is not a word")
        names = Counter(key.value for key, _ in node.value)
        if twice := [name for name, count in names.items() if count > 1][:5]:
            line = node.start_mark.line + 1
            raise ConfigFileError(
                f"{', '.join(map(str, twice))} given twice, in the mapping that starts on line {line}",
                why="which of the two is meant cannot be known",
                fix="keep one of them",
            )
        return super().construct_mapping(node, deep)

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise ConfigFileError(
                f"line {mark.line + 1} holds a YAML alias",
                why="aliases can make a small file unboundedly large, so none is followed",
                fix="write the value out",
            )
        self.depth += 1
        if self.depth > YAML_DEPTH:
            raise ValueError(f"nested more than {YAML_DEPTH} deep")
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node


_Loader.yaml_implicit_resolvers = {
    first: [pair for pair in pairs if pair[0].endswith(":null")]
    for first, pairs in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.yaml_constructors = {
    tag: construct
    for tag, construct in yaml.SafeLoader.yaml_constructors.items()
    if tag is None or tag.rpartition(":")[2] in TAGS
}
for _tag, _pattern, _first in (
    ("bool", r"(true|false)$", "tf"),
    ("int", r"[-+]?(0|[1-9][0-9]*)$", "-+0123456789"),
    ("float", r"[-+]?(\d+\.\d*|\.\d+|\d+(?=[eE]))([eE][-+]?\d+)?$", "-+.0123456789"),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(_pattern), list(_first))


def plain(text: str) -> Any:
    """The value of a piece of YAML, by the rules of this module."""
    return yaml.load(text, Loader=_Loader)


def read_text(path: Path) -> str:
    """The text of a file of settings, of at most 256 KiB."""
    try:
        if not path.is_file():
            raise ConfigFileError(
                f"{path} is not a file",
                why="what stands alone is one YAML or JSON file of settings; a model has its flag",
                fix=f"--model {path if path.is_dir() else 'starter'} --dataset rows.jsonl",
            )
        if path.name.lower().removesuffix(".gz").endswith(_ROWS):
            raise ConfigFileError(
                f"{path} is a file of rows",
                why="what stands alone behind `luthier train` is a YAML or JSON file of settings",
                fix=f"luthier train --model starter --dataset {path}",
            )
        with path.open("rb") as file:
            raw = file.read(YAML_BYTES + 1)
    except OSError as error:
        raise ConfigFileError(
            f"{path} cannot be read: {error.strerror}", fix=f"ls -l '{path}'"
        ) from error
    if len(raw) > YAML_BYTES:
        raise ConfigFileError(
            f"{path} is {format_bytes(path.stat().st_size)} long",
            why=f"a file of settings has at most {format_bytes(YAML_BYTES)}",
            fix="pass data with `dataset:`, the file of settings only names it",
        )
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise ConfigFileError(
            f"{path} line {line} is not UTF-8", why="files of settings are UTF-8", fix=EXAMPLE
        ) from error


def read_given(path: Path, text: str) -> list[Given]:
    """The settings in a file, with their lines.

    Raises:
        ConfigFileError: It is not one mapping of plain values with distinct names.
    """
    try:
        if path.suffix == ".json":
            return _from_json(path, text)
        return _from_yaml(path, text)
    except ConfigFileError as error:
        raise ConfigFileError(f"{path}: {error.what}", why=error.why, fix=error.fix) from error
    except (yaml.YAMLError, json.JSONDecodeError) as error:
        raise ConfigFileError(
            f"{path}: {_place(error)}", why="it has to be plain YAML, or JSON", fix=EXAMPLE
        ) from error
    except (ValueError, RecursionError) as error:
        reason = (
            f"nested more than {YAML_DEPTH} deep"
            if isinstance(error, RecursionError)
            else str(error)
        )
        raise ConfigFileError(
            f"{path}: {reason}", why="settings are plain values under plain names", fix=EXAMPLE
        ) from error


def _place(error: Exception) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"line {error.lineno}: {error.msg}"
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or str(error).splitlines()[0]
    if "'\\t'" in problem:
        problem = "a tab where YAML wants spaces"
    if "could not determine a constructor" in problem:
        problem = "a tag such as !!python/object; only plain values are read"
    return f"line {mark.line + 1}: {problem}" if mark else problem


def _from_yaml(path: Path, text: str) -> list[Given]:
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return []
        if not isinstance(node, yaml.MappingNode):
            raise ConfigFileError(
                "it holds no mapping", why="each line is `setting: value`", fix=EXAMPLE
            )
        values = loader.construct_document(node)
        lines = {key.value: key.start_mark.line + 1 for key, _ in node.value}
    finally:
        loader.dispose()
    _few(values)
    return [
        Given(str(name), value, f"{path.name} line {lines.get(str(name), 1)}")
        for name, value in values.items()
    ]


def _few(values: Mapping[object, object]) -> None:
    if len(values) > SETTING_NAMES:
        raise ValueError(f"it names {len(values):,} settings; at most {SETTING_NAMES} are read")


def _from_json(path: Path, text: str) -> list[Given]:
    values = decode(text)
    if not isinstance(values, dict):
        raise ValueError("it holds no object")
    if {"settings", "provenance"} <= values.keys():  # the settings.json of an earlier run
        saved, sources = values["settings"], values["provenance"]
        if not isinstance(saved, dict) or not isinstance(sources, dict):
            raise ValueError("its settings or their provenance is no object")
        return [
            Given(name, value, f"{path.name} ({sources.get(name, 'default')})")
            for name, value in saved.items()
            if sources.get(name, "default") != "default"
        ]
    _few(values)
    return [Given(name, value, f"{path.name}{_line(text, name)}") for name, value in values.items()]


def _line(text: str, name: str) -> str:
    match = re.search(re.escape(json.dumps(name, ensure_ascii=False)) + r"\s*:", text)
    return f" line {text.count(chr(10), 0, match.start()) + 1}" if match else ""
