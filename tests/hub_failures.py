"""What can go wrong between a hub and its client, one answer at a time; `HubServer.fail` says to which requests.

Each failure is called in place of the hub's application and may ask it for the answer that it spoils.
"""

import asyncio
from collections.abc import Awaitable, Callable

Application = Callable[..., Awaitable[None]]
Failure = Callable[..., Awaitable[None]]  # (application, scope, receive, send)


def status(code: int, **headers: str) -> Failure:
    """Another status, such as status(429, retry_after="1"), and no content."""

    async def refuse(application, scope, receive, send) -> None:
        named = [(key.replace("_", "-").encode(), value.encode()) for key, value in headers.items()]
        length = (b"content-length", b"0")
        await send({"type": "http.response.start", "status": code, "headers": [*named, length]})
        await send({"type": "http.response.body", "body": b""})

    return refuse


def cut(pause: float = 0) -> Failure:
    """The line breaks in the middle of the content; before it does, nothing comes for `pause` seconds."""

    async def break_off(application, scope, receive, send) -> None:
        start, content = await answer(application, scope, receive)
        await send(start)
        await send({"type": "http.response.body", "body": content[: len(content) // 2], "more_body": True})
        await asyncio.sleep(pause)  # whoever returns without the rest makes the server close the line

    return break_off


def damaged() -> Failure:
    """The content with its last bit flipped, and nothing that says so."""

    async def spoil(application, scope, receive, send) -> None:
        start, content = await answer(application, scope, receive)
        await send(start)
        await send({"type": "http.response.body", "body": content[:-1] + bytes([content[-1] ^ 1])})

    return spoil


def dripping(pieces: int, pause: float) -> Failure:
    """The content in so many pieces, with a pause after each."""

    async def drip(application, scope, receive, send) -> None:
        start, content = await answer(application, scope, receive)
        await send(start)
        size = -(-len(content) // pieces)
        for at in range(0, len(content), size):
            await send({"type": "http.response.body", "body": content[at : at + size], "more_body": True})
            await asyncio.sleep(pause)
        await send({"type": "http.response.body", "body": b""})

    return drip


async def answer(application: Application, scope, receive) -> tuple[dict, bytes]:
    """What the hub itself would have sent."""
    messages = []

    async def keep(message) -> None:
        messages.append(message)

    await application(scope, receive, keep)
    return messages[0], b"".join(message.get("body", b"") for message in messages[1:])


class Failing:
    """The application, but for the requests that are to fail."""

    def __init__(self, app: Application, awaited: dict[tuple[str, str], list[Failure]]) -> None:
        self.application, self.awaited = app, awaited

    async def __call__(self, scope, receive, send) -> None:
        if scope["type"] == "http":
            for (method, ending), failures in self.awaited.items():
                if failures and scope["method"] == method and scope["path"].endswith(ending):
                    await failures.pop(0)(self.application, scope, receive, send)
                    return
        await self.application(scope, receive, send)
