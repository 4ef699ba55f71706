"""What our server serves in the comparison, and how it is run. `_asgi.py` has the same for the peers.

| route | what its handler does |
|---|---|
| ``/hello`` | answers |
| ``/sleep/S/KEY`` | answers after S seconds; reports how it began and how it ended |
| ``/finish/W/S/KEY`` | the same within `Request.finish` of W seconds |
| ``/shield/S/KEY`` | the same in a shield of its own |
| ``/endless/KEY`` | streams `ENDLESS` bytes, and counts what it could hand over |
| ``/count/KEY`` | answers with that count |
| ``/sink/KEY`` | reads the content, and answers with its length |
| ``/deaf/S`` | answers after S seconds, and does not read the content |
| ``/late/S`` | reads the content after S seconds, and answers with its length |
| ``/clock/KEY`` | sends events until the server drains, and then a last one |
| ``/drip/N`` | streams N pieces in N tenths of a second |
| ``/group/KEY``, ``/crash/KEY`` | fails with two errors at once, or one |
| ``/trailers`` | echoes the request's trailer ``X-Sum`` as content, and sends one of its own |
| ``/hints`` | sends a 103 before its answer |
| ``/socket/KEY`` | becomes a WebSocket, and waits for what comes |

The rest are routes that only we can have.
"""

from __future__ import annotations

import base64
import hashlib
import json
import ssl
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import trio
from _say import ENDLESS, HELLO, PIECE, handed_over, report

import trio_http
from trio_http import HTTPException, Request, Response

_SOCKET_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455 §1.3


async def app(request: Request) -> Response | None:
    match request.path.split("/")[1:]:
        case ["hello"]:
            return Response(200, content=HELLO)
        case ["sleep", seconds, key]:
            return await _reported(request, key, partial(trio.sleep, float(seconds)))
        case ["finish", within, seconds, key]:
            with request.finish(within=float(within)):
                return await _reported(request, key, partial(trio.sleep, float(seconds)))
        case ["shield", seconds, key]:
            return await _reported(request, key, partial(_shielded, float(seconds)))
        case ["endless", key]:
            return await _reported(request, key, partial(_endless, request, key))
        case ["count", key]:
            return Response(200, text=str(handed_over.get(key, 0)))
        case ["sink", key]:
            return await _reported(request, key, partial(_sink, request))
        case ["deaf", seconds]:
            await trio.sleep(float(seconds))
            return Response(200, content=HELLO)
        case ["late", seconds]:
            await trio.sleep(float(seconds))
            return await _sink(request)
        case ["clock", key]:
            await _clock(request, key)
            return None
        case ["drip", count]:
            async with request.stream_response(200) as body:
                for number in range(int(count)):
                    await body.send_all(b"%d\n" % number)
                    await trio.sleep(0.1)
            return None
        case ["group", key]:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_fail, f"first {key}")
                nursery.start_soon(_fail, f"second {key}")
        case ["crash", key]:
            raise ValueError(f"crash {key}")
        case ["trailers"]:
            async for _ in request.body:
                pass
            async with request.stream_response(200) as body:
                await body.send_all(request.body.trailers.get("X-Sum", "").encode())
                body.trailers = {"X-Answer-Sum": "42"}
            return None
        case ["hints"]:
            await request.send_informational(103, headers={"Link": "</style.css>; rel=preload"})
            return Response(200, content=HELLO)
        case ["socket", key]:
            await _socket(request, key)
            return None
    return await _ours_only(request)


async def _ours_only(request: Request) -> Response | None:
    match request.path.split("/")[1:]:
        case ["echo"]:
            async with request.upgrade("echo") as stream:
                async for data in stream:
                    await stream.send_all(data)
            return None
        case ["peer"]:
            address = request.connection.peername
            assert isinstance(address, tuple)
            return Response(200, text=f"{address[0]} {address[1]}")
        case ["speed", key]:
            await _speed(request, key)
            return None
        case ["hop", *ports, key]:
            return await _hop(request, ports, key)
    raise HTTPException(404)


async def _reported(
    request: Request, key: str, work: Callable[[], Awaitable[Response | None]]
) -> Response | None:
    report("began", key)
    try:
        response = await work()
    except trio.Cancelled as exc:
        reason = request.cancel_reason
        report("cancelled", key, reason=None if reason is None else reason.value, told=exc.reason)
        raise
    except trio_http.ClientDisconnected:
        report("disconnected", key)
        raise
    report("finished", key)
    if response is None and request.response_stream is None:
        return Response(200, content=HELLO)
    return response


async def _shielded(seconds: float) -> None:
    with trio.move_on_after(seconds, shield=True):
        await trio.sleep_forever()


async def _endless(request: Request, key: str) -> None:
    handed_over[key] = 0
    async with request.stream_response(200, headers={"Content-Length": str(ENDLESS)}) as body:
        for _ in range(ENDLESS // len(PIECE)):
            await body.send_all(PIECE)
            handed_over[key] += len(PIECE)


async def _sink(request: Request) -> Response:
    length = 0
    async for piece in request.body:
        length += len(piece)
    return Response(200, text=str(length))


async def _clock(request: Request, key: str) -> None:
    fields = {"Content-Type": "text/event-stream"}
    async with request.stream_response(200, headers=fields) as body:
        await body.send_all(b"data: tick\n\n")
        report("began", key)
        while not request.draining:
            with request.cancel_on_drain():
                await trio.sleep(15)
        await body.send_all(b"event: bye\ndata:\n\n")


async def _fail(text: str) -> None:
    raise ValueError(text)


async def _socket(request: Request, key: str) -> None:
    proof = base64.b64encode(
        hashlib.sha1(request.headers["Sec-WebSocket-Key"].encode() + _SOCKET_GUID).digest()
    )
    async with request.upgrade("websocket", headers={"Sec-WebSocket-Accept": proof.decode()}) as stream:
        report("began", key)
        async for _ in stream:
            pass


async def _speed(request: Request, key: str) -> None:
    """Stream until the client goes, and say after each piece how fast it has read."""
    async with request.stream_response(200) as body:
        while True:
            await body.send_all(PIECE * 16)
            connection = request.connection
            report("speed", key, rate=connection.send_rate, unsent=connection.unsent)


async def _hop(request: Request, ports: list[str], key: str) -> Response | None:
    """Ask the server at the first port, with the time that is left; at the end of the chain, sleep."""
    left = trio.current_effective_deadline() - trio.current_time()
    report("hop", f"{key}-{len(ports)}", left=left)

    async def work() -> Response:
        if not ports:
            await trio.sleep(60)
            return Response(200)
        # Nothing here is https; and to read the system's authorities takes much of the time that is left, or
        # all of it on a busy machine.
        async with trio_http.Client(ssl_context=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)) as client:
            url = f"http://127.0.0.1:{ports[0]}/hop/{'/'.join([*ports[1:], key])}"
            return await client.get(url, headers={"Request-Deadline": str(int(left * 1000))})

    return await _reported(request, f"{key}-{len(ports)}", work)


class Failures(trio_http.ServerInstrument):
    """Reports each failure of a handler, whole."""

    def handler_failed(self, exchange: trio_http.ExchangeRecord) -> None:
        assert exchange.error is not None
        key = exchange.target.rpartition("/")[2]
        report("failed", key, target=exchange.target, errors=_leaves(exchange.error))


def _leaves(error: BaseException) -> list[str]:
    if isinstance(error, BaseExceptionGroup):
        return [leaf for each in error.exceptions for leaf in _leaves(each)]
    return [str(error)]


# Running


def config_of(settings: dict[str, Any]) -> trio_http.ServerConfig:
    """Return our configuration; a group of settings, such as "times", is an object of the group's class."""
    defaults = trio_http.ServerConfig()
    options = {
        name: type(getattr(defaults, name))(**value) if isinstance(value, dict) else value
        for name, value in settings.items()
    }
    return trio_http.ServerConfig(instruments=[Failures()], **options)


async def serve(
    port: int, settings: dict[str, Any], commands: Callable[[Callable[[list[str]], None]], None]
) -> None:
    """Serve until told to stop.

    Args:
      port: where.
      settings: "ours" has attributes of `ServerConfig`, "tls" certificate and key or None, "systemd" the name
        of the sockets to serve in place of the port, or None.
      commands: is called once, with what takes each command; that may be called in any thread.
    """
    send, receive = trio.open_memory_channel[list[str]](100)
    token = trio.lowlevel.current_trio_token()
    config, tls = config_of(settings["ours"]), settings["tls"]
    if settings["systemd"] is not None:
        listeners = trio_http.systemd_listeners(settings["systemd"])
        start = partial(trio_http.serve_listeners, app, listeners, config=config)
    elif tls is not None:
        start = partial(
            trio_http.serve_ssl_over_tcp, app, port, trio_http.server_context(*tls), config=config
        )
    else:
        start = partial(trio_http.serve_tcp, app, port, config=config)
    async with trio.open_nursery() as nursery:
        server: trio_http.Server = await nursery.start(start)
        commands(lambda words: token.run_sync_soon(send.send_nowait, words))
        report("ready")
        async for words in receive:
            match words:
                case ["stop", grace]:
                    await server.shutdown(grace=float(grace))
                    break
                case ["swap", certificate, key]:
                    server.replace_ssl_context(trio_http.server_context(certificate, key))
                case ["snapshot"]:
                    connections = [connection.as_dict() for connection in server.snapshot()]
                    report("snapshot", connections=json.loads(json.dumps(connections)))
        report("stopped")
    report("served")
