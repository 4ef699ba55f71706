"""Runs programs written for h11 on `trio_http.wire`: ``python as_h11.py PROGRAM [URL]``.

The replacement is made before anything of the program is imported, by nothing but `sys.modules`. A server
prints the port it listens on and serves until it is terminated; a client prints what it saw, as one line of
JSON.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
from collections.abc import Awaitable, Callable
from typing import Any

# A script's own folder heads `sys.path`; the project's is wanted, also when it is not installed.
sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))

import trio_http.wire as wire

PREFIX = "trio_http.wire"
sys.modules["h11"] = wire
# Without these, `from h11._connection import ...` would load the wire's files a second time under h11's name.
for _name, _module in list(sys.modules.items()):
    if _name.startswith(PREFIX + "."):
        sys.modules["h11" + _name.removeprefix(PREFIX)] = _module

Message = dict[str, Any]


def users() -> dict[str, str]:
    """Return which module each loaded module of a program knows as ``h11``."""
    found = {}
    for name, module in list(sys.modules.items()):
        known = getattr(module, "h11", None)
        if getattr(known, "Connection", None) is not None and not name.startswith(("__main__", "h11")):
            found[name] = known.__name__
    return dict(sorted(found.items()))


async def app(
    scope: Message, receive: Callable[[], Awaitable[Message]], send: Callable[[Message], Awaitable[None]]
) -> None:
    """Answer ``/users`` with what knows h11, anything else with the request's body; echo WebSocket
    messages."""
    if scope["type"] == "lifespan":
        while (await receive())["type"] != "lifespan.shutdown":
            await send({"type": "lifespan.startup.complete"})
        await send({"type": "lifespan.shutdown.complete"})
        return
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        while (message := await receive())["type"] == "websocket.receive":
            await send({"type": "websocket.send", "text": "echo " + message["text"]})
        return
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body", False):
            break
    if scope["path"] == "/users":
        body = json.dumps(users()).encode()
    fields = [(b"x-method", scope["method"].encode()), (b"x-version", scope["http_version"].encode())]
    if scope["path"] != "/chunked":
        fields.append((b"content-length", b"%d" % len(body)))
    await send({"type": "http.response.start", "status": 200, "headers": fields})
    half = len(body) // 2
    await send({"type": "http.response.body", "body": body[:half], "more_body": True})
    await send({"type": "http.response.body", "body": body[half:]})


def listening() -> socket.socket:
    """Return a socket that listens on a free port, which is printed."""
    sock = socket.create_server(("127.0.0.1", 0))
    print(sock.getsockname()[1], flush=True)
    return sock


def uvicorn() -> None:
    import uvicorn

    config = uvicorn.Config(app, http="h11", ws="wsproto", loop="asyncio", log_level="error", lifespan="off")
    uvicorn.Server(config).run(sockets=[listening()])


def _hypercorn_config(sock: socket.socket) -> Any:
    from hypercorn.config import Config

    config = Config()
    config.bind = [f"fd://{sock.fileno()}"]
    config.errorlog = None
    return config


def hypercorn_trio() -> None:
    import trio
    from hypercorn.trio import serve

    sock = listening()
    trio.run(serve, app, _hypercorn_config(sock))


def hypercorn_asyncio() -> None:
    from hypercorn.asyncio import serve

    sock = listening()
    asyncio.run(serve(app, _hypercorn_config(sock)))


def httpcore_sync(url: str) -> Any:
    import httpcore

    seen: list[Any] = []
    with httpcore.ConnectionPool() as pool:
        for _ in range(2):
            response = pool.request("GET", url + "/hello")
            seen.append([response.status, response.content.decode()])
        response = pool.request("POST", url + "/echo", content=b"a body")
        seen.append([response.status, response.content.decode()])
        response = pool.request("POST", url + "/chunked", content=iter([b"in ", b"pieces"]))
        seen.append([response.status, response.content.decode()])
        with pool.stream("POST", url + "/chunked", content=b"x" * 100_000) as response:
            seen.append([response.status, sum(len(part) for part in response.iter_stream())])
        seen.append(len(pool.connections))
    return seen


def httpcore_trio(url: str) -> Any:
    import httpcore
    import trio

    async def pieces() -> Any:
        yield b"in "
        yield b"pieces"

    async def main() -> Any:
        seen: list[Any] = []
        async with httpcore.AsyncConnectionPool() as pool:
            for _ in range(2):
                response = await pool.request("GET", url + "/hello")
                seen.append([response.status, response.content.decode()])
            response = await pool.request("POST", url + "/echo", content=b"a body")
            seen.append([response.status, response.content.decode()])
            response = await pool.request("POST", url + "/chunked", content=pieces())
            seen.append([response.status, response.content.decode()])
            async with pool.stream("POST", url + "/chunked", content=b"x" * 100_000) as response:
                seen.append([response.status, sum([len(part) async for part in response.aiter_stream()])])
            seen.append(len(pool.connections))
        return seen

    return trio.run(main)


def httpx_sync(url: str) -> Any:
    import httpx

    seen: list[Any] = []
    with httpx.Client(trust_env=False) as client:
        for _ in range(2):
            response = client.get(url + "/hello")
            seen.append([response.status_code, response.text])
        seen.append([(response := client.post(url + "/echo", content=b"a body")).status_code, response.text])
        response = client.post(url + "/chunked", content=iter([b"in ", b"pieces"]))
        seen.append([response.status_code, response.text])
        with client.stream("POST", url + "/chunked", content=b"x" * 100_000) as response:
            seen.append([response.status_code, sum(len(part) for part in response.iter_raw())])
        seen.append(len(client._transport._pool.connections))
    return seen


def httpx_trio(url: str) -> Any:
    import httpx
    import trio

    async def pieces() -> Any:
        yield b"in "
        yield b"pieces"

    async def main() -> Any:
        seen: list[Any] = []
        async with httpx.AsyncClient(trust_env=False) as client:
            for _ in range(2):
                response = await client.get(url + "/hello")
                seen.append([response.status_code, response.text])
            response = await client.post(url + "/echo", content=b"a body")
            seen.append([response.status_code, response.text])
            response = await client.post(url + "/chunked", content=pieces())
            seen.append([response.status_code, response.text])
            async with client.stream("POST", url + "/chunked", content=b"x" * 100_000) as response:
                seen.append([response.status_code, sum([len(part) async for part in response.aiter_raw()])])
            seen.append(len(client._transport._pool.connections))
        return seen

    return trio.run(main)


def wsproto_pair() -> Any:
    """Let wsproto shake hands with itself, both of its ends being on the replacement."""
    import wsproto
    from wsproto import events

    client = wsproto.WSConnection(wsproto.ConnectionType.CLIENT)
    server = wsproto.WSConnection(wsproto.ConnectionType.SERVER)
    # The first message comes in one piece with the request's answer: what lies behind a 101 must be handed
    # over.
    server.receive_data(client.send(events.Request(host="a", target="/chat", subprotocols=["x"])))
    request = next(server.events())
    assert isinstance(request, events.Request)
    client.receive_data(
        server.send(events.AcceptConnection(subprotocol="x")) + server.send(events.TextMessage("hi"))
    )
    accepted, message = client.events()
    assert isinstance(accepted, events.AcceptConnection)
    assert isinstance(message, events.TextMessage)
    refusing = wsproto.WSConnection(wsproto.ConnectionType.SERVER)
    other = wsproto.WSConnection(wsproto.ConnectionType.CLIENT)
    refusing.receive_data(other.send(events.Request(host="a", target="/chat")))
    list(refusing.events())
    other.receive_data(
        refusing.send(events.RejectConnection(status_code=403, headers=[(b"content-length", b"0")]))
    )
    rejected = next(other.events())
    assert isinstance(rejected, events.RejectConnection)
    return [request.target, accepted.subprotocol, message.data, rejected.status_code]


SERVERS = {"uvicorn": uvicorn, "hypercorn_trio": hypercorn_trio, "hypercorn_asyncio": hypercorn_asyncio}
CLIENTS = {
    "httpcore_sync": httpcore_sync,
    "httpcore_trio": httpcore_trio,
    "httpx_sync": httpx_sync,
    "httpx_trio": httpx_trio,
}

if __name__ == "__main__":
    program = sys.argv[1]
    if program in SERVERS:
        SERVERS[program]()
    else:
        result = wsproto_pair() if program == "wsproto" else CLIENTS[program](sys.argv[2])
        print(json.dumps({"seen": result, "users": users()}))
