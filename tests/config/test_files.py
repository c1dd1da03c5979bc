"""A file of settings is plain values on numbered lines, and nothing else (C14)."""

import time

import pytest

from luthier.config.files import plain, read_given, read_text
from luthier.errors import ConfigFileError


def given(folder, content, name="run.yaml"):
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return {one.name: (one.value, one.where) for one in read_given(path, read_text(path))}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-4", 1e-4),
        ("2e5", 2e5),
        ("1.5", 1.5),
        ("-1", -1),
        ("0", 0),
        ("true", True),
        ("false", False),
        ("null", None),
        ("~", None),
        ("", None),
        ("no", "no"),
        ("off", "off"),
        ("Yes", "Yes"),
        ("'1e-4'", "1e-4"),
        ("010", "010"),
        ("12:30", "12:30"),
        ("2024-01-01", "2024-01-01"),
        ("1_000", "1_000"),
        (".nan", ".nan"),
        ("[q_proj, v_proj]", ["q_proj", "v_proj"]),
        ("{a: {b: 1e-1}}", {"a": {"b": 0.1}}),
    ],
)
def test_plain_values_by_one_rule(text, value):
    found = plain(text)
    assert found == value
    assert type(found) is type(value)


def test_lines_are_counted_in_yaml_and_json(tmp_path):
    assert given(tmp_path, "# first\na: 1\n\nb:\n  - x\nc: 2\n") == {
        "a": (1, "run.yaml line 2"),
        "b": (["x"], "run.yaml line 4"),
        "c": (2, "run.yaml line 6"),
    }
    assert given(tmp_path, '{\n "a": 1e-4,\n "b": null\n}', "run.json") == {
        "a": (1e-4, "run.json line 2"),
        "b": (None, "run.json line 3"),
    }


def test_byte_order_mark_carriage_returns_and_nothing_are_fine(tmp_path):
    assert given(tmp_path, b"\xef\xbb\xbfa: 1\r\nb: x\r\n")["b"] == ("x", "run.yaml line 2")
    assert given(tmp_path, "") == {}
    assert given(tmp_path, "# only a comment\n") == {}


BOMB = "a: &a [x, x]\n" + "".join(
    f"{chr(98 + n)}: &{chr(98 + n)} [*{chr(97 + n)}, *{chr(97 + n)}]\n" for n in range(20)
)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (BOMB, "alias"),
        ("a: &x 1\nb: *x\n", "line 2 holds a YAML alias"),
        ("base: &b {a: 1}\nc:\n  <<: *b\n", "alias"),
        ("a: !!python/object/apply:os.system ['true']\n", "tag"),
        ("a: !!python/name:os.system\n", "tag"),
        ("a: !!binary aGk=\n", "a tag such as"),
        ("a: 1\na: 2\n", "a given twice"),
        ("m: {x: 1, x: 2}\n", "x given twice"),
        ("a:\n\t- 1\n", "line 2: a tab"),
        ("a: [1, 2\n", "line"),
        ("- a\n- b\n", "no mapping"),
        ("just text\n", "no mapping"),
        ("a: 1\n---\nb: 2\n", "line"),
        ("? [1, 2]\n: x\n", "not a word"),
        ("a: \x00\n", "run.yaml"),
        (b"a: \xff\xfe\n", "line 1 is not UTF-8"),
        ("a: " + "[" * 100_000, "nested more than"),
        ("x" * 10_000_000, "256 KiB"),
    ],
    ids=lambda value: str(value)[:24],
)
def test_anything_but_plain_yaml_is_refused_quickly(tmp_path, content, message):
    start = time.process_time()
    with pytest.raises(ConfigFileError, match=message):
        given(tmp_path, content)
    assert time.process_time() - start < 2


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"a": 1, "a": 2}', "'a' is given twice"),
        ('{"a": NaN}', "NaN"),
        ("[1]", "no object"),
        ('{"a": 1', "line 1"),
        ('{"a": ' + "[" * 100_000, "nested more than"),
    ],
    ids=lambda value: str(value)[:24],
)
def test_anything_but_plain_json_is_refused(tmp_path, content, message):
    with pytest.raises(ConfigFileError, match=message):
        given(tmp_path, content, "run.json")
