"""Bodies of requests: counted while they come, or read once and handed on."""

import asyncio

from starlette.types import Message, Receive

from luthier.service.http.door.envelope import ApiError


class Metered:
    """A body that is counted as it comes, and may not pause for long."""

    def __init__(self, receive: Receive, limit: int, pause_s: float) -> None:
        self._receive, self._left, self._limit, self._pause_s = receive, limit, limit, pause_s
        self._whole = False

    async def __call__(self) -> Message:
        try:
            async with asyncio.timeout(None if self._whole else self._pause_s):
                message = await self._receive()
        except TimeoutError as error:
            raise too_slow() from error
        self._whole = not message.get("more_body", False)
        self._left -= len(message.get("body", b""))
        if self._left < 0:
            raise too_large(self._limit)
        return message


class Replayed:
    """A body that has been read, for the one who reads it next."""

    def __init__(self, body: bytes, receive: Receive) -> None:
        self._body: bytes | None = body
        self._receive = receive

    async def __call__(self) -> Message:
        if self._body is None:
            return await self._receive()
        body, self._body = self._body, None
        return {"type": "http.request", "body": body, "more_body": False}


def too_large(limit: int) -> ApiError:
    """The refusal of a body over its limit."""
    return ApiError(
        413,
        f"the body is larger than {limit:,} bytes",
        code="too_large",
        why=f"at most {limit:,} bytes are read here",
        headers={"connection": "close"},
    )


def too_slow() -> ApiError:
    """The refusal of a body that does not come."""
    return ApiError(
        408, "the body came too slowly", code="too_slow", headers={"connection": "close"}
    )
