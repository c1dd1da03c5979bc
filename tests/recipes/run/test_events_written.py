"""What real runs write is what the types of events say, field for field."""

import dataclasses
import json

import pytest

from luthier.events import KINDS, Notice, Planned, Warned, parse

SELDOM = {Notice: {"code", "params", "action"}, Warned: {"code", "params", "action"}}
"""Fields that only some events of a kind have."""

FIELDS = {kind.type: {field.name for field in dataclasses.fields(kind)} for kind in KINDS}


@pytest.mark.parametrize("name", ["sft", "dpo", "full"])
def test_the_lines_of_a_run_have_the_fields_of_their_types(finished, name):
    text = (getattr(finished, name).path / "events.jsonl").read_text("utf-8")
    lines = [json.loads(line) for line in text.splitlines()]
    kinds = set()
    for line in lines:
        event = parse(line)
        assert event is not None, line
        assert event.as_dict() == line
        kinds.add(type(event))
        unsaid = FIELDS[line["type"]] - set(line)
        assert unsaid <= SELDOM.get(type(event), set()), line
    expected = {"started", "data", "planned", "step", "evaluated", "checkpoint", "finished"}
    assert expected <= {kind.type for kind in kinds}
    assert Planned in kinds
