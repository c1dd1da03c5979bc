"""A result with the id of a call that nobody made."""

from luthier.data.doctor.rule import BadRowRule


class ToolResultUnmatched(BadRowRule):
    """A result with the id of a call that nobody made."""

    code = "tool-result-unmatched"
    title = "a tool's result that belongs to no call"
    why = "the model would learn to go on from results that it did not ask for"
    example = {
        "messages": [
            {"role": "user", "content": "Weather in Oslo?"},
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [
                    {
                        "id": "a",
                        "type": "function",
                        "function": {"name": "weather", "arguments": "{}"},
                    }
                ],
            },
            {"role": "tool", "tool_call_id": "b", "content": "4 degrees"},
            {"role": "assistant", "content": "4 degrees."},
        ]
    }
    fix = "give the result the id of its call"
