"""`/v1/chat/completions` and `/v1/completions`: answers of base and tuned models."""

import contextlib
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
from typing import Annotated, Literal

import anyio
from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field, field_validator
from starlette.concurrency import run_in_threadpool

from luthier.errors import LuthierError
from luthier.limits import ANSWER_TOKENS
from luthier.process_messages import AnswerEvent
from luthier.service.http import schemas
from luthier.service.http.door.envelope import ApiError, ApiJson, dump, of_luthier
from luthier.service.http.live.streams import EventStream
from luthier.service.http.models import known_model
from luthier.service.http.openai.chat_completions import (
    ChatChunks,
    GrowingAnswers,
    chat_object,
    new_id,
)
from luthier.service.http.openai.completions import TextChunks, text_object
from luthier.service.http.parts import Parts, parts

router = APIRouter(prefix="/v1", tags=["chat"])
LOG = logging.getLogger("luthier.service")
MAX_ANSWERS = 8
IGNORED = (
    "store", "service_tier", "prediction", "safety_identifier", "prompt_cache_key",
    "prompt_cache_retention", "verbosity", "moderation", "web_search_options", "metadata", "user",
    "parallel_tool_calls", "function_call", "functions", "reasoning_effort",
)  # fmt: skip
"""Fields that mean nothing here; they are taken and have no effect."""

_TOLD: set[str] = set()
Penalty = Annotated[float, Field(ge=-2, le=2)]


class SamplingRequest(BaseModel):
    """What both kinds of request share."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    model: Annotated[str, Field(min_length=1, max_length=512)]
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    n: Annotated[int, Field(ge=1, le=MAX_ANSWERS)] | None = None
    max_tokens: Annotated[int, Field(ge=1, le=ANSWER_TOKENS)] | None = None
    stop: (
        Annotated[str, Field(min_length=1, max_length=1000)]
        | Annotated[list[Annotated[str, Field(min_length=1, max_length=1000)]], Field(max_length=4)]
        | None
    ) = None
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    logit_bias: dict[str, Annotated[float, Field(ge=-100, le=100)]] | None = Field(
        None, max_length=1024
    )
    stream: bool | None = None
    stream_options: dict[str, object] | None = None
    user: str | None = None
    luthier: dict[str, object] | None = Field(
        None, description="`device: cpu` answers beside a job."
    )

    @field_validator("logit_bias")
    @classmethod
    def _tokens(cls, value: dict[str, float] | None) -> dict[str, float] | None:
        if value and any(not (key.isascii() and key.isdigit()) for key in value):
            raise ValueError("names are token ids")
        return value

    def asked(self) -> dict[str, object]:
        """The part of the request that the chat process knows."""
        names = ("temperature", "top_p", "n", "seed", "presence_penalty", "frequency_penalty",
                 "logit_bias")  # fmt: skip
        given = {name: getattr(self, name) for name in names}
        stops = [self.stop] if isinstance(self.stop, str) else self.stop or []
        body = {name: value for name, value in given.items() if value is not None}
        if "seed" in body:
            body["seed"] %= 2**63
        device = (self.luthier or {}).get("device")
        if set(self.luthier or {}) - {"device"} or device not in (None, "cpu"):
            raise _refused("luthier", "takes device: cpu and nothing else")
        return {**body, "stop": stops, **({"device": device} if device else {})}

    @property
    def wants_usage(self) -> bool:
        """Whether the stream ends with counts."""
        return bool((self.stream_options or {}).get("include_usage"))


class ChatRequest(SamplingRequest):
    """A chat completion to be."""

    model_config = ConfigDict(extra="allow", allow_inf_nan=False)

    messages: Annotated[list[dict[str, object]], Field(min_length=1, max_length=2048)]
    max_completion_tokens: Annotated[int, Field(ge=1, le=ANSWER_TOKENS)] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    tools: Annotated[list[dict[str, object]], Field(max_length=128)] | None = None
    tool_choice: str | dict[str, object] | None = None
    response_format: dict[str, object] | None = None
    modalities: list[str] | None = None


class CompletionRequest(SamplingRequest):
    """A text to continue, and how."""

    prompt: Annotated[
        str
        | Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1, max_length=1_000_000)]
        | Annotated[list[str], Field(min_length=1, max_length=16)],
        Field(union_mode="left_to_right"),
    ]
    max_tokens: Annotated[int, Field(ge=1, le=ANSWER_TOKENS)] | None = 16
    logprobs: Annotated[int, Field(ge=0, le=5)] | None = None
    echo: bool | None = None
    suffix: None = None
    best_of: Literal[1] | None = None


@router.post("/chat/completions", response_model=schemas.ChatCompletion)
async def chat_completions(request: Request, body: ChatRequest) -> object:
    """Answer a conversation.  `stream`: as server-sent events, ended by `[DONE]`."""
    found = parts(request)
    asked = await run_in_threadpool(_chat_asked, found, body)
    tools = [*(body.tools or [])] if "tools" in asked else []
    identifier = new_id("chatcmpl")
    if not body.stream:
        done = await _whole(request, asked)
        shown = chat_object(
            identifier, body.model, done, wants_logprobs=bool(body.logprobs), tools=tools
        )
        return ApiJson(shown)
    chunks = ChatChunks(
        identifier,
        body.model,
        wants_logprobs=bool(body.logprobs),
        wants_usage=body.wants_usage,
        tools=tools,
    )
    return await _streamed(found, asked, chunks)


def _chat_asked(found: Parts, body: ChatRequest) -> dict[str, object]:
    for name in sorted(body.model_extra or {}):
        if name in IGNORED:
            _tell_once(name)
        elif name == "audio":
            raise _refused("audio", "is not made here")
        elif name in ("chat_template", "chat_template_kwargs"):
            raise _refused(name, "a template is a program and never comes with a request")
        else:
            raise _refused(name, "is not a field of this request")
    if body.modalities not in (None, ["text"]):
        raise _refused("modalities", "only text is made here")
    kind = (body.response_format or {}).get("type", "text")
    if kind != "text":
        raise _refused(
            "response_format", f"type={str(kind)[:40]!r} cannot be promised; only text can"
        )
    tools = body.tools or []
    if any(tool.get("type") != "function" for tool in tools):
        raise _refused("tools", "only tools of type function are known")
    choice = body.tool_choice
    if choice not in (None, "auto", "none"):
        raise _refused("tool_choice", "auto and none are possible: nothing forces a model's answer")
    if body.top_logprobs and not body.logprobs:
        raise _refused("top_logprobs", "needs logprobs: true")
    asked = {
        **body.asked(),
        "model": known_model(found, body.model, status=404),
        "messages": [_message(index, one) for index, one in enumerate(body.messages)],
        "logprobs": bool(body.logprobs),
        "top_logprobs": body.top_logprobs or 0,
    }
    if (limit := body.max_completion_tokens or body.max_tokens) is not None:
        asked["max_tokens"] = limit
    if tools and choice != "none":
        asked["tools"] = tools
    return asked


ROLES = {"developer": "system", "function": "tool"}


def _message(index: int, message: Mapping[str, object]) -> dict[str, object]:
    """A message with its text joined; what is not text is refused, and nothing is fetched."""
    role = message.get("role")
    if role not in ("system", "developer", "user", "assistant", "tool", "function"):
        raise _refused(f"messages.{index}.role", f"{str(role)[:40]!r} is no role")
    content = message.get("content")
    if isinstance(content, list):
        texts = []
        for place, part in enumerate(content):
            kind = part.get("type") if isinstance(part, dict) else None
            if kind not in ("text", "refusal"):
                raise _refused(
                    f"messages.{index}.content.{place}", "only text is read; nothing is fetched"
                )
            texts.append(str(part.get(kind, "")))
        content = "".join(texts)
    if content is not None and not isinstance(content, str):
        raise _refused(f"messages.{index}.content", "should be a text or a list of parts")
    hidden = {"refusal", "audio", "annotations", "reasoning_content"}
    kept = {name: value for name, value in message.items() if name not in hidden}
    return {**kept, "role": ROLES.get(role, role), "content": content}


@router.post("/completions", response_model=schemas.Completion)
async def completions(request: Request, body: CompletionRequest) -> object:
    """Continue a text; useful with base models and for log-probabilities."""
    found = parts(request)
    if (
        body.stream
        and isinstance(body.prompt, list)
        and len(body.prompt) > 1
        and (isinstance(body.prompt[0], str))
    ):
        raise _refused("prompt", "one prompt at a time can be streamed")
    model = await run_in_threadpool(lambda: known_model(found, body.model, status=404))
    base = {**body.asked(), "model": model, "max_tokens": body.max_tokens or 16}
    if body.logprobs is not None:
        base |= {"logprobs": True, "top_logprobs": body.logprobs}
    several = isinstance(body.prompt, list) and isinstance(body.prompt[0], str)
    prompts = list(body.prompt) if several else [body.prompt]
    identifier, echo = new_id("cmpl"), bool(body.echo)
    if echo and not all(isinstance(prompt, str) for prompt in prompts):
        raise _refused("echo", "needs a prompt that is a text")
    if body.stream:
        chunks = TextChunks(
            identifier,
            body.model,
            wants_logprobs=body.logprobs is not None,
            wants_usage=body.wants_usage,
            echo=str(prompts[0]) if echo else "",
        )
        return await _streamed(found, {**base, "prompt": prompts[0]}, chunks)
    done = [await _whole(request, {**base, "prompt": prompt}) for prompt in prompts]
    return ApiJson(
        text_object(
            identifier,
            body.model,
            [(str(prompt) if echo else "", one) for prompt, one in zip(prompts, done, strict=True)],
            wants_logprobs=body.logprobs is not None,
        )
    )


async def _whole(request: Request, asked: Mapping[str, object]) -> GrowingAnswers:
    """Every answer, when all are there; the model stops when nobody waits for them any more."""
    found, done = parts(request), GrowingAnswers()
    with found.generating.held():
        async with contextlib.aclosing(_events(found, asked)) as events:
            async for event in events:
                done.take(event)
                if await request.is_disconnected():
                    raise ApiError(400, "the request was cut off", code="cut_off")
    return done


async def _streamed(
    found: Parts, asked: Mapping[str, object], chunks: "ChatChunks | TextChunks"
) -> EventStream:
    """The reply once the first event is there, so that a refusal is still a refusal."""
    found.generating.enter()
    events = _events(found, asked)
    try:
        first: list[AnswerEvent] = []
        async for event in events:
            first.append(event)
            if event["type"] != "loading":
                break
    except BaseException:
        found.generating.leave()
        raise
    return EventStream(
        _encoded(first, events, chunks),
        gate=found.generating,
        stalled_s=found.limits.stalled_client_s,
    )


async def _encoded(
    first: list[AnswerEvent],
    events: AsyncIterator[AnswerEvent],
    chunks: "ChatChunks | TextChunks",
) -> AsyncIterator[bytes | None]:
    """Lines of the stream; an error in the middle is a line too, and the clients raise it."""
    try:
        for event in first:
            for chunk in chunks.of(event):
                yield b"data: " + dump(chunk) + b"\n\n"
        async for event in events:
            for chunk in chunks.of(event):
                yield b"data: " + dump(chunk) + b"\n\n"
    except LuthierError as error:
        yield b"data: " + dump(of_luthier(error).body()) + b"\n\n"
    finally:
        await events.aclose()  # type: ignore[attr-defined]
    yield b"data: [DONE]\n\n"


async def _events(found: Parts, asked: Mapping[str, object]) -> AsyncGenerator[AnswerEvent]:
    """Events of the chat process; whoever stops listening stops the model."""
    iterator: Iterator[AnswerEvent] = found.chats.complete(dict(asked))
    try:
        while (event := await run_in_threadpool(next, iterator, None)) is not None:
            yield event
    finally:
        with anyio.CancelScope(shield=True):
            await run_in_threadpool(iterator.close)  # type: ignore[attr-defined]


def _tell_once(name: str) -> None:
    if name not in _TOLD:
        _TOLD.add(name)
        LOG.info("%s has no effect here", name)


def _refused(param: str, said: str) -> ApiError:
    return ApiError(400, f"{param}: {said}", code="invalid_value", param=param)
