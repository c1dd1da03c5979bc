"""A call of a tool that is not among the tools of its row."""

from luthier.data.doctor.rule import BadRowRule


class ToolUnknown(BadRowRule):
    """A call of a tool that is not among the tools of its row."""

    code = "tool-unknown"
    title = "a call of a tool that is not offered"
    why = "the model would learn to call tools it was not given"
    example = {
        "messages": [
            {"role": "user", "content": "Weather in Oslo?"},
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [
                    {"type": "function", "function": {"name": "forecast", "arguments": "{}"}}
                ],
            },
        ],
        "tools": [
            {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
        ],
    }
    fix = "put the tool into `tools`, or correct the name"
