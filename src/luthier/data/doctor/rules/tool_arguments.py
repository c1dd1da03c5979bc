"""A tool call whose arguments are not a JSON object."""

from luthier.data.doctor.rule import BadRowRule


class ToolArguments(BadRowRule):
    """A tool call whose arguments are not a JSON object."""

    code = "tool-arguments"
    title = "arguments of a tool call that do not parse"
    why = "the model would learn to write calls that no program can read"
    example = {
        "messages": [
            {"role": "user", "content": "Weather in Oslo?"},
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [
                    {
                        "type": "function",
                        "function": {"name": "weather", "arguments": "{city: Oslo"},
                    }
                ],
            },
        ]
    }
    fix = "write the arguments as a JSON object"
