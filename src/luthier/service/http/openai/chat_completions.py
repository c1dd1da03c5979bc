"""From the events of the chat process to OpenAI's chat completions and completions."""

import json
import re
import secrets
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from luthier.bounded import decode

Event = Mapping[str, Any]
_TOOL = re.compile(r"<tool_call>\s*(\{.*?\})\s*</tool_call>", re.DOTALL)
_OPENING = "<tool_call>"


@dataclass
class Answer:
    """One of the `n` answers, while it grows."""

    text: str = ""
    logprobs: list[dict[str, Any]] = field(default_factory=list)
    finish_reason: str = "stop"


@dataclass
class Answers:
    """All answers to one request."""

    answers: dict[int, Answer] = field(default_factory=dict)
    usage: dict[str, Any] = field(default_factory=dict)

    def take(self, event: Event) -> None:
        """Add an event."""
        kind = event["type"]
        if kind == "usage":
            self.usage = {name: value for name, value in event.items() if name != "type"}
        elif kind in ("delta", "end"):
            answer = self.answers.setdefault(int(event["index"]), Answer())
            answer.text += event.get("text", "")
            answer.logprobs += event.get("logprobs") or []
            answer.finish_reason = event.get("finish_reason", answer.finish_reason)


def new_id(prefix: str) -> str:
    """An id of an answer."""
    return f"{prefix}-{secrets.token_hex(12)}"


def usage_object(usage: Mapping[str, Any]) -> dict[str, Any]:
    """Counts of tokens, and what else is known in `luthier`."""
    prompt, completion = int(usage.get("prompt_tokens", 0)), int(usage.get("completion_tokens", 0))
    hidden = ("prompt_tokens", "completion_tokens")
    more = {name: value for name, value in usage.items() if name not in hidden}
    counted = {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
    }
    return {**counted, "luthier": more} if more else counted


def chat_logprobs(entries: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Log-probabilities of a chat answer."""
    return {"content": [_entry(one) for one in entries], "refusal": None}


def _entry(one: Mapping[str, Any]) -> dict[str, Any]:
    tops = one.get("top") or one.get("top_logprobs") or ()
    return {
        "token": one["token"],
        "logprob": one["logprob"],
        "bytes": one.get("bytes"),
        "top_logprobs": [
            {"token": top["token"], "logprob": top["logprob"], "bytes": top.get("bytes")}
            for top in tops
        ],
    }


def text_logprobs(entries: Iterable[Mapping[str, Any]], offset: int = 0) -> dict[str, Any]:
    """Log-probabilities of a completion: four lists of the same length."""
    tokens: list[str] = []
    values: list[float] = []
    tops: list[dict[str, float]] = []
    offsets: list[int] = []
    for one in entries:
        tokens.append(one["token"])
        values.append(one["logprob"])
        listed = one.get("top") or one.get("top_logprobs") or ()
        tops.append({top["token"]: top["logprob"] for top in listed})
        offsets.append(offset)
        offset += len(one["token"])
    return {
        "tokens": tokens,
        "token_logprobs": values,
        "top_logprobs": tops,
        "text_offset": offsets,
    }


def tool_calls(text: str, tools: Iterable[Mapping[str, Any]]) -> tuple[str, list[dict[str, Any]]]:
    """What is said besides calls, and the calls, where the answer has them as models write them.

    Only functions that were offered count; everything else stays text.
    """
    names = {tool.get("function", {}).get("name") for tool in tools}
    calls, rest = [], text
    for match in _TOOL.finditer(text):
        try:
            call = decode(match[1])
        except ValueError:
            continue
        if not isinstance(call, dict) or call.get("name") not in names:
            continue
        arguments = call.get("arguments", call.get("parameters", {}))
        body = arguments if isinstance(arguments, str) else json.dumps(arguments)
        function = {"name": call["name"], "arguments": body}
        calls.append({"id": new_id("call"), "type": "function", "function": function})
        rest = rest.replace(match[0], "")
    return rest.strip() if calls else text, calls


def chat_object(
    identifier: str, model: str, done: Answers, *, wants_logprobs: bool, tools: Iterable[Any]
) -> dict[str, Any]:
    """A whole chat completion."""
    choices = []
    for index, answer in sorted(done.answers.items()):
        said, calls = tool_calls(answer.text, tools)
        message: dict[str, Any] = {
            "role": "assistant",
            "content": said if said or not calls else None,
            "refusal": None,
        }
        if calls:
            message["tool_calls"] = calls
        choices.append(
            {
                "index": index,
                "message": message,
                "finish_reason": "tool_calls" if calls else answer.finish_reason,
                "logprobs": chat_logprobs(answer.logprobs) if wants_logprobs else None,
            }
        )
    return {
        "id": identifier,
        "object": "chat.completion",
        "created": int(time.time()),
        "model": model,
        "choices": choices,
        "usage": usage_object(done.usage),
        "system_fingerprint": None,
    }


class ChatChunks:
    """The stream of a chat completion: role first, deltas, an ending each, usage, `[DONE]`."""

    def __init__(
        self,
        identifier: str,
        model: str,
        *,
        wants_logprobs: bool,
        wants_usage: bool,
        tools: list[Mapping[str, Any]],
    ) -> None:
        self._base = {
            "id": identifier,
            "object": "chat.completion.chunk",
            "created": int(time.time()),
            "model": model,
            "system_fingerprint": None,
        }
        self._logprobs, self._usage, self._tools = wants_logprobs, wants_usage, tools
        self._begun: set[int] = set()
        self._held: dict[int, str] = {}  # text that may still turn out to be a call

    def of(self, event: Event) -> Iterator[dict[str, Any]]:
        """The chunks of an event."""
        kind = event["type"]
        if kind == "usage":
            if self._usage:
                yield {**self._base, "choices": [], "usage": usage_object(event)}
            return
        if kind not in ("delta", "end"):
            return
        index = int(event["index"])
        if index not in self._begun:
            self._begun.add(index)
            yield self._chunk(index, {"role": "assistant", "content": "", "refusal": None})
        if kind == "delta":
            text = self._said(index, event.get("text", ""))
            if text or event.get("logprobs"):
                yield self._chunk(index, {"content": text}, logprobs=event.get("logprobs"))
            return
        yield from self._end(index, str(event.get("finish_reason") or "stop"))

    def _said(self, index: int, text: str) -> str:
        """What of the text can be sent; with tools, a call is held back until it is whole."""
        if not self._tools:
            return text
        held = self._held.get(index, "") + text
        start = held.find(_OPENING)
        if start < 0:
            start = len(held) - _overlap(held, _OPENING)
        self._held[index] = held[start:]
        return held[:start]

    def _end(self, index: int, reason: str) -> Iterator[dict[str, Any]]:
        held = self._held.pop(index, "")
        said, calls = tool_calls(held, self._tools) if held else ("", [])
        if said:
            yield self._chunk(index, {"content": said})
        for position, call in enumerate(calls):
            function = call["function"]
            opening = {**call, "index": position, "function": {**function, "arguments": ""}}
            yield self._chunk(index, {"tool_calls": [opening]})
            pieces = {"index": position, "function": {"arguments": function["arguments"]}}
            yield self._chunk(index, {"tool_calls": [pieces]})
        yield self._chunk(index, {}, reason="tool_calls" if calls else reason)

    def _chunk(
        self,
        index: int,
        delta: Mapping[str, Any],
        *,
        reason: str | None = None,
        logprobs: list[Mapping[str, Any]] | None = None,
    ) -> dict[str, Any]:
        listed = chat_logprobs(logprobs) if self._logprobs and logprobs else None
        choice = {"index": index, "delta": delta, "finish_reason": reason, "logprobs": listed}
        more = {"usage": None} if self._usage else {}
        return {**self._base, "choices": [choice], **more}


def _overlap(text: str, word: str) -> int:
    """How much of the end of the text is the beginning of the word."""
    return next((n for n in range(len(word) - 1, 0, -1) if text.endswith(word[:n])), 0)
