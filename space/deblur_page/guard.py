"""What the page refuses of strangers before Gradio sees it: requests that would make this machine fetch an address."""

import json
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import unquote

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
LARGEST_CALL = 2**20  # bytes of a call's JSON; files are uploaded beside it
FETCHING = ("/file=http:", "/file=https:", "/file/http:", "/file/https:", "/proxy=")
CALLS = ("/queue/join", "/call/", "/run/", "/api/")
HEADERS = [(b"x-content-type-options", b"nosniff"), (b"referrer-policy", b"no-referrer")]


class Guard:
    """ASGI middleware."""

    def __init__(self, app: Callable[[Scope, Receive, Send], Awaitable[None]]) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)

        async def send_guarded(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message.get("headers", []), *HEADERS]}
            await send(message)

        path = unquote(unquote(scope["path"])).lower().replace("\\", "/")
        if any(fetching in path for fetching in FETCHING):
            return await refuse(send_guarded, 403, "this page fetches nothing from other addresses; upload the file")
        if scope["method"] == "POST" and any(call in path for call in CALLS):
            body = await read(receive)
            if body is None:
                return await refuse(send_guarded, 413, "this call is too long; upload files first and name them in it")
            if names_an_address(body):
                return await refuse(
                    send_guarded, 403, "this page fetches nothing from other addresses; upload the file"
                )
            receive = replay(body, receive)
        return await self.app(scope, receive, send_guarded)


async def read(receive: Receive) -> bytes | None:
    """The body; None if it is longer than a call may be."""
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if len(body) > LARGEST_CALL:
            return None
        if not message.get("more_body"):
            return body


def replay(body: bytes, receive: Receive) -> Receive:
    sent = False

    async def again() -> MutableMapping[str, Any]:
        nonlocal sent
        if sent:
            return await receive()
        sent = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again


def names_an_address(body: bytes) -> bool:
    """Whether a file in a call's data is one that the server would have to fetch."""
    try:
        waiting = [json.loads(body)]
    except (ValueError, RecursionError):
        return False  # Gradio refuses it
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            for key, inner in value.items():
                if key == "path" and isinstance(inner, str) and ":" in inner.split("/")[0] and "//" in inner:
                    return True
                waiting.append(inner)
        elif isinstance(value, list):
            waiting += value
        elif isinstance(value, str) and value.lstrip()[:1] in ("{", "["):  # MCP and older clients nest their JSON
            try:
                waiting.append(json.loads(value))
            except (ValueError, RecursionError):
                continue
    return False


async def refuse(send: Send, status: int, sentence: str) -> None:
    body = json.dumps({"error": sentence}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
