"""The mask against a reference that reads nothing of it: one turn is changed, and ids are compared.

The ids of an answer that change with its text are learned; of each stretch of learned ids nothing
else is left than what the template writes around the text, up to one terminator.
"""

import numpy as np
import pytest
from tests.rendering import ORIGIN, SOURCES, TOOL, chat_template, tokenizer_for

from luthier.data.rendering.render import Renderer
from luthier.data.types import BadRow, Conversation, Example, Message, ToolCall
from luthier.errors import TemplateError

FIRST, OTHER = "#" * 12, "%" * 12  # one byte a token, and no letter of any template


def turns(talk, index, text):
    """The conversation with one turn's content, or its call's argument, set to a text."""
    made = list(talk)
    message = made[index]
    if message.tool_calls:
        calls = (ToolCall("weather", {"place": text}, "abcdefghi"),)
        made[index] = Message(message.role, message.content, None, calls)
    else:
        made[index] = Message(
            message.role, text, tool_call_id=message.tool_call_id, name=message.name
        )
    return tuple(made)


CALL = ToolCall("weather", {"place": "here"}, "abcdefghi")
TALKS = {
    "one": (Message("user", "Ask"), Message("assistant", "Answer")),
    "several": (
        Message("user", "Ask"), Message("assistant", "Answer"), Message("user", "More"),
        Message("assistant", "Else"), Message("user", "Last"), Message("assistant", "End"),
    ),
    "system": (Message("system", "Rule"), Message("user", "Ask"), Message("assistant", "Answer")),
    "tools": (
        Message("user", "Ask"), Message("assistant", "", tool_calls=(CALL,)),
        Message("tool", "dry", tool_call_id="abcdefghi", name="weather"), Message("assistant", "End"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("talk", TALKS)
@pytest.mark.parametrize("name", sorted(SOURCES))
def test_what_changes_with_an_answer_is_what_is_learned_of_it(name, talk):
    tokenizer = tokenizer_for(name, SOURCES[name])
    maker = Renderer(tokenizer, chat_template(SOURCES[name], tokenizer), seq_length=10**6)
    tools = (TOOL,) if talk == "tools" or "Hermes" in name else ()
    stop = maker.facts.terminator
    for index, message in enumerate(TALKS[talk]):
        try:
            sides = [
                maker.render(Conversation(turns(TALKS[talk], index, text), ORIGIN, tools))
                for text in (FIRST, OTHER)
            ]
        except TemplateError as error:
            if talk != "tools" or "has no place for" not in error.what:
                raise
            return
        if any(isinstance(side, BadRow) for side in sides):
            assert talk == "tools" or "system" in sides[0].reason
            return
        learned_in = 0
        for one, two in zip(*(side.sequences for side in sides), strict=True):
            assert len(one.ids) == len(two.ids)
            assert (one.weights == two.weights).all()
            changed = np.flatnonzero(one.ids != two.ids)
            if message.role != "assistant":
                assert not one.weights[changed].any()
                continue
            if not one.weights[changed].any():  # an earlier turn in the text of a later answer
                continue
            learned_in += 1
            assert one.weights[changed].all()
            assert len(changed) == len(FIRST)
            first, last = changed[0], changed[-1]
            while first > 0 and one.weights[first - 1]:
                first -= 1
            while last + 1 < len(one.ids) and one.weights[last + 1]:
                last += 1
            behind = tokenizer.decode(one.ids[changed[-1] + 1 : last + 1])
            before = tokenizer.decode(one.ids[first : changed[0]])
            assert behind.endswith(stop) or message.tool_calls
            assert behind.count(stop) <= 1
            assert (
                tokenizer.ends_turn(behind.strip()[-len(stop) :])
                or stop in behind
                or message.tool_calls
            )
            if not message.tool_calls:
                assert behind.strip() == stop
                assert before in (maker.facts.lead, "", " ") or "final" in before
            assert "Ask" not in before
            assert "dry" not in before + behind
        assert learned_in == (1 if message.role == "assistant" else 0)


def test_every_template_is_compared_in_at_least_one_form():
    compared = {}
    for name, source in SOURCES.items():
        tokenizer = tokenizer_for(name, source)
        maker = Renderer(tokenizer, chat_template(source, tokenizer), seq_length=10**6)
        tools = (TOOL,) if "Hermes" in name else ()
        made = maker.render(Conversation(TALKS["several"], ORIGIN, tools))
        compared[name] = isinstance(made, Example)
    assert all(compared.values())
