"""The kinds of events: what a line says is what the class says, and readers use no other field."""

import ast
import dataclasses
import json
import math
from pathlib import Path

import pytest

import luthier
from luthier.events import KINDS, Event, Finished, Planned, Step, decode, parse, stands

SOURCE = Path(luthier.__file__).parent
READERS = (
    "cli/drawing/render.py", "cli/overview.py", "service/runner.py", "service/follow.py",
    "service/http/live/history.py", "service/http/live/streams.py",
    "service/http/openai/job_events.py", "service/http/page/job_routes.py",
)  # fmt: skip
LINES = {"event", "fields", "step", "old", "one"}
"""What readers of plain lines call an event."""

OTHERS = {
    "cli/drawing/render.py": {"figures", "metrics"},
    "service/http/openai/job_events.py": {"before", "after", "number", "reason"},  # of states
}


def test_a_line_is_its_event_again_with_numbers_that_are_not_finite():
    said = Step(step=3, loss=math.nan, grad_norm=math.inf, metrics={"a": math.nan, "b": 1.5})
    line = json.loads(said.to_json())
    assert line["loss"] is None
    assert line["loss_text"] == "nan"
    assert line["metrics"] == {"a": None, "a_text": "nan", "b": 1.5}
    again = parse(line)
    assert repr(again) == repr(said)


def test_what_is_not_known_is_left_out_unless_null_says_something():
    assert set(json.loads(Step(step=3).to_json())) == {"type", "step", "time", "elapsed_s"}
    assert json.loads(Finished(step=1, reason="interrupted").to_json())["result"] is None
    assert json.loads(Planned(steps=1).to_json())["micro_batch_tokens"] is None


def test_lines_of_older_and_newer_runs_are_read():
    assert parse({"type": "step", "step": 3, "time": 1.0, "elapsed_s": 0.5}).total is None
    assert parse({"type": "step", "step": 3, "of_a_later_version": 1}).step == 3
    assert parse({"type": "of_a_later_version"}) is None


@pytest.mark.parametrize("line", [{"type": "step"}, {"type": "step", "step": "x"}, {}, {"type": 3}])
def test_a_damaged_line_is_no_event(line):
    assert parse(line) is None


@pytest.mark.parametrize("line", [b'{"type": "st', b"", b"[]", b"7", b"{}", b"\xff"])
def test_a_torn_line_is_no_line(line):
    assert decode(line) is None


def test_a_resume_voids_what_came_behind_its_step_and_every_end_without_one():
    assert stands({"type": "step", "step": 3}, 3)
    assert not stands({"type": "step", "step": 4}, 3)
    assert not stands({"type": "failed", "what": "it broke"}, 3)
    assert stands({"type": "notice", "text": "kept"}, 0)


def test_every_kind_has_its_own_name_and_no_two_fields_mean_two_types():
    assert len({kind.type for kind in KINDS}) == len(KINDS)
    assert all(issubclass(kind, Event) for kind in KINDS)


@pytest.mark.parametrize("reader", READERS)
def test_every_field_that_a_reader_of_lines_uses_is_in_a_type(reader):
    known = {"type", "name"} | {f.name for kind in KINDS for f in dataclasses.fields(kind)}
    used = set(_keys(ast.parse((SOURCE / reader).read_text("utf-8"))))
    assert used - known - OTHERS.get(reader, set()) == set()


def _keys(tree):
    """Constant keys that are taken from a variable with the name of an event."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant):
            holder, key = node.value, node.slice.value
        elif (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and node.func.attr == "get"
            and node.args
            and isinstance(node.args[0], ast.Constant)
        ):
            holder, key = node.func.value, node.args[0].value
        else:
            continue
        if isinstance(holder, ast.Name) and holder.id in LINES and isinstance(key, str):
            yield key
