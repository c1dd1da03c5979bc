"""What a chat template can do, found out by rendering marked messages once.

Nothing is read off the template's source: a template is judged by what it writes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from luthier.data.rendering.template import ChatTemplate, wrap_tool
from luthier.data.rendering.thoughts import opened
from luthier.data.tokens.tokenizer import Tokenizer
from luthier.errors import TemplateError

_SYSTEM, _USER, _ANSWER, _TOOL, _CALL = "qsystemq", "quserq", "qanswerq", "qtoolq", "qcallq"
_KEY, _VALUE, _RESULT, _THOUGHT = "qkeyq", "qvalueq", "qresultq", "qthoughtq"
_SCHEMA: Mapping[str, object] = {
    "name": _TOOL,
    "description": "d",
    "parameters": {"type": "object", "properties": {_KEY: {"type": "string", "description": "k"}}},
}
Dicts = list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class TemplateFacts:
    """What one template does with messages.

    Attributes:
        terminator: The control token that ends an answer, or None if the template writes none.
        header: What it writes before an answer and leaves out of the generation prompt because it
            has none; empty for templates with a generation prompt.
        opening: What the generation prompt (or the header in its place) adds to a prompt.
        lead: What it writes between that and the answer's content; the model must write it too.
        bridge: What it writes between a prompt without generation prompt and the answer.
        system: It has a place for a system message.
        tools: It shows the tools offered.
        calls: It writes the assistant's tool calls.
        results: It writes the results of tools.
        reasoning: It writes `reasoning_content` of the last turn.
        short_ids: Ids of tool calls must be nine letters or digits.
        null_content: An empty content beside tool calls is given as null, or a second turn appears.
        thinking_switch: `enable_thinking: false` puts an empty thinking block into the prompt.
        thinking_on: Only `enable_thinking: true` lets the prompt open a thinking block.
    """

    terminator: str | None
    header: str
    opening: str
    lead: str
    bridge: str
    system: bool
    tools: bool
    calls: bool
    results: bool
    reasoning: bool
    short_ids: bool
    null_content: bool
    thinking_switch: bool
    thinking_on: bool


class _Probe:
    """Renders; gives None where the template refuses."""

    def __init__(self, template: ChatTemplate) -> None:
        self._template = template
        self._tools: list[Mapping[str, Any]] = []
        if self([_user()], prompt=True) is None and self([_user()], tools=True) is not None:
            self._tools = [wrap_tool(_SCHEMA)]  # a template that needs tools to work at all

    def __call__(
        self, messages: Dicts, *, prompt: bool = False, tools: bool = False, **kwargs: Any
    ) -> str | None:
        offered = [wrap_tool(_SCHEMA)] if tools else self._tools
        try:
            return self._template.render_dicts(
                messages, offered, add_generation_prompt=prompt, **kwargs
            )
        except TemplateError:
            return None


def probe(template: ChatTemplate, tokenizer: Tokenizer) -> TemplateFacts:
    """Find out what a template does.

    Raises:
        TemplateError: It does not even take a user message and an answer.
    """
    rendered = _Probe(template)
    full = rendered([_user(), _answer()])
    if full is None or _USER not in full or _ANSWER not in full:
        template.render_dicts(
            [_user(), _answer()], [], add_generation_prompt=False
        )  # its own words
        raise TemplateError(
            "the chat template leaves out the user's text or the answer",
            why="what it does not write cannot be learned",
            fix="chat_template: FILE.jinja with the template of the model",
        )
    system = rendered([{"role": "system", "content": _SYSTEM}, _user(), _answer()])
    tools = rendered([_user(), _answer()], tools=True)
    thought = rendered([_user(), _answer() | {"reasoning_content": _THOUGHT, "thinking": _THOUGHT}])
    calls = _calls(rendered)
    header = _header(rendered, full)
    opening, lead = _opening(rendered, full, header)
    return TemplateFacts(
        terminator=_terminator(full, tokenizer),
        header=header,
        opening=opening,
        lead=lead,
        bridge=_bridge(rendered, full),
        system=_holds(system, _SYSTEM, _USER),
        tools=_holds(tools, _TOOL),
        calls=calls[0],
        results=calls[1] or _bare_result(rendered),
        reasoning=_holds(thought, _THOUGHT),
        short_ids=calls[2],
        null_content=calls[3],
        thinking_switch=_switch(rendered),
        thinking_on=_opens(rendered),
    )


def _user() -> dict[str, Any]:
    return {"role": "user", "content": _USER}


def _answer() -> dict[str, Any]:
    return {"role": "assistant", "content": _ANSWER}


def _holds(text: str | None, *words: str) -> bool:
    return text is not None and all(word in text for word in words)


def _terminator(full: str, tokenizer: Tokenizer) -> str | None:
    tail = full[full.rindex(_ANSWER) + len(_ANSWER) :]
    for start, stop, number in tokenizer.find_controls(tail):
        if tail[:start].strip():
            return None
        text = tail[start:stop].strip()
        return text if tokenizer.special_tokens.get(text) == number else None
    return None


def _header(rendered: _Probe, full: str) -> str:
    prompt, bare = rendered([_user()], prompt=True), rendered([_user()])
    if prompt is None or prompt != bare or not full.startswith(prompt):
        return ""
    header = full[len(prompt) : full.rindex(_ANSWER)]
    return header if header.strip() else ""


def _opening(rendered: _Probe, full: str, header: str) -> tuple[str, str]:
    bare, prompt = rendered([_user()]), (rendered([_user()], prompt=True) or "") + header
    if bare is None or not prompt.startswith(bare) or not full.startswith(prompt):
        return "", ""
    return prompt[len(bare) :], full[len(prompt) : full.rindex(_ANSWER)]


def _bridge(rendered: _Probe, full: str) -> str:
    bare = rendered([_user()])
    if bare is None or not full.startswith(bare):
        return ""
    return full[len(bare) : full.rindex(_ANSWER)]


def _calls(rendered: _Probe) -> tuple[bool, bool, bool, bool]:
    """Calls and results written, nine-character ids needed, null content needed."""
    texts: dict[tuple[bool, bool], str] = {}
    for short in (False, True):
        for null in (False, True):
            text = rendered(_call_messages(short=short, null=null), tools=True)
            if text is not None and _CALL in text and _VALUE in text:
                texts[short, null] = text
    if not texts:
        return False, False, False, False
    short = not any(key[0] is False for key in texts)
    usual, null_text = texts.get((short, False)), texts.get((short, True))
    null = usual is None or (null_text is not None and len(null_text) < len(usual))
    chosen = null_text if null else usual
    return True, _holds(chosen, _RESULT), short, null


def _bare_result(rendered: _Probe) -> bool:
    """A result behind an answer that made no call, for templates that know results but not calls."""
    result = {"role": "tool", "content": _RESULT, "tool_call_id": "abcdefghi", "name": _CALL}
    return _holds(rendered([_user(), _answer(), result, _answer()]), _RESULT)


def _call_messages(*, short: bool, null: bool) -> Dicts:
    number = "abcdefghi" if short else "call_probe_1"
    function = {"name": _CALL, "arguments": {_KEY: _VALUE}}
    call = {"type": "function", "id": number, "function": function}
    asked = {"role": "assistant", "content": None if null else "", "tool_calls": [call]}
    result = {"role": "tool", "content": _RESULT, "tool_call_id": number, "name": _CALL}
    return [_user(), asked, result, _answer()]


def _switch(rendered: _Probe) -> bool:
    usual = rendered([_user()], prompt=True)
    without = rendered([_user()], prompt=True, enable_thinking=False)
    return usual is not None and without is not None and usual != without and "think" in without


def _opens(rendered: _Probe) -> bool:
    usual = rendered([_user()], prompt=True)
    thinking = rendered([_user()], prompt=True, enable_thinking=True)
    return bool(thinking and opened(thinking) and not (usual and opened(usual)))


def thinking_kwargs(
    facts: TemplateFacts, kwargs: Mapping[str, Any], thoughts: Sequence[str | None]
) -> dict[str, Any]:
    """`enable_thinking` as the data is, where the template can be told so.

    Training on answers without thought under a prompt that asks for thought would teach a model to
    answer where it will be asked to think; thoughts have no place where a prompt has closed its
    thinking block.

    Args:
        thoughts: Of each answer in the data, its reasoning or None.
    """
    if "enable_thinking" in kwargs or "thinking" in kwargs:
        return dict(kwargs)
    if any(thoughts):
        return {**kwargs, "enable_thinking": True} if facts.thinking_on else dict(kwargs)
    return {**kwargs, "enable_thinking": False} if facts.thinking_switch else dict(kwargs)
