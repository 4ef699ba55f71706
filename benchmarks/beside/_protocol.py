"""Claims about HTTP itself: 100 (Continue), interim responses, trailers, upgrades."""

from __future__ import annotations

import math
import time
from functools import partial
from typing import Any

import trio
import trio.testing
from _claims import Cell, Claim, Run
from _contender import GRANIAN, HOST, HYPERCORN, UVICORN
from _raw import connect, get, post


async def _continue(run: Run, name: str) -> Cell:
    """Wait for a 100 that must not come, and for one that must not come early."""
    late = 0.5
    port = run.shared[name].port
    raw = await connect(port)
    first = await raw.ask(post("/deaf/0.3", 5, "Expect: 100-continue"))
    raw.close()
    raw = await connect(port)
    begin = time.monotonic()
    second = await raw.ask(post(f"/late/{late}", 5, "Expect: 100-continue"))
    took = time.monotonic() - begin
    final = await raw.ask(b"hello") if second.status == 100 else second
    raw.close()
    unread = "no 100" if first.status != 100 else "a 100"
    when = f"{second.status} after {took * 1000:.0f} ms"
    return Cell(
        first.status == 200 and second.status == 100 and took >= late and final.content == b"5",
        f"handler never reads: {unread}; it reads after {late * 1000:.0f} ms: {when}",
    )


async def _response_trailers(run: Run, name: str) -> Cell:
    raw = await connect(run.shared[name].port)
    answer = await raw.ask(get("/trailers", "TE: trailers", "Connection: TE"))
    raw.close()
    trailers = {} if answer.trailers is None else answer.trailers
    if trailers.get(b"x-answer-sum") == b"42":
        return Cell(True, "sent")
    return Cell(False, f"none sent (a {answer.status})", _OFFERED_IN_HTTP2.get(name, _NOT_OFFERED))


async def _request_trailers(run: Run, name: str) -> Cell:
    raw = await connect(run.shared[name].port)
    head = f"POST /trailers HTTP/1.1\r\nHost: {HOST}\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n"
    answer = await raw.ask(head.encode() + b"2\r\nhi\r\n0\r\nX-Sum: 17\r\n\r\n")
    raw.close()
    return Cell(answer.content == b"17", f"handler saw X-Sum: {answer.content.decode()}")


async def _early_hints(run: Run, name: str) -> Cell:
    raw = await connect(run.shared[name].port)
    first = await raw.ask(get("/hints"))
    final = await raw.answer() if first.status == 103 else first
    raw.close()
    if first.status == 103 and b"style.css" in first.fields.get(b"link", b"") and final.status == 200:
        return Cell(True, "103, then 200")
    return Cell(False, f"{first.status} at once", _OFFERED_IN_HTTP2.get(name, _NOT_OFFERED))


_OFFERED_IN_HTTP2 = {
    HYPERCORN: "the ASGI extension is offered for HTTP/2 and 3 only (hypercorn/protocol/http_stream.py)",
    UVICORN: "the ASGI extension is offered for HTTP/2 only (uvicorn/protocols/http/zttp_h2_impl.py)",
}
_NOT_OFFERED = "the ASGI extension is not in the scope"


# An upgrade is held to Trio's own tests of a stream, in this process: they need both ends.


async def _upgrade(run: Run, name: str) -> Cell:
    import trio_http

    give, take = trio.open_memory_channel[trio.abc.HalfCloseableStream](math.inf)

    async def handler(request: trio_http.Request) -> None:
        async with request.upgrade("echo") as stream:
            await give.send(stream)
            await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        server: trio_http.Server = await nursery.start(partial(trio_http.serve_tcp, handler, 0))
        listener = server.listeners[0]
        assert isinstance(listener, trio.SocketListener)
        address: tuple[Any, ...] = listener.socket.getsockname()

        async def make() -> tuple[trio.abc.HalfCloseableStream, trio.abc.HalfCloseableStream]:
            stream = await trio.open_tcp_stream(address[0], address[1])
            await stream.send_all(_OFFER)
            head = b""
            while not head.endswith(b"\r\n\r\n"):
                head += await stream.receive_some(1)
            return stream, await take.receive()

        with trio.fail_after(20):
            await trio.testing.check_half_closeable_stream(make, None)
        nursery.cancel_scope.cancel()

    raw = await connect(run.shared[name].port)
    head = await raw.ask(_OFFER + b"left over")  # beyond the request: it belongs to the new protocol
    with trio.move_on_after(5):
        await raw.until(b"over")
        await raw.send(b" and more")
        await raw.until(b"more")
    raw.close()
    return Cell(
        head.status == 101, "passes Trio's tests of a half-closeable stream; left-over bytes are there"
    )


_OFFER = get("/echo", "Connection: Upgrade", "Upgrade: echo")

_NO_UPGRADE = {
    HYPERCORN: "an Upgrade other than websocket and h2c is a plain request (hypercorn/protocol/h11.py)",
    UVICORN: "an Upgrade other than websocket is a plain request (uvicorn/protocols/http/httptools_impl.py)",
    GRANIAN: "its applications have http and websocket scopes (granian/asgi.py), and no raw stream",
}
_NO_REQUEST_TRAILERS = {
    HYPERCORN: "ASGI's http.request has body and more_body only (hypercorn/protocol/http_stream.py)",
    UVICORN: "ASGI's http.request has body and more_body only (uvicorn/protocols/http/httptools_impl.py)",
    GRANIAN: "ASGI's http.request has body and more_body only (granian/asgi.py hands on what its Rust makes)",
}

CLAIMS = [
    Claim("an upgrade is a trio Stream, left-over bytes included", "N13, S35", _upgrade, _NO_UPGRADE),
    Claim("100 (Continue) when the handler first reads, and not before", "S29", _continue),
    Claim("response trailers on HTTP/1.1", "S31", _response_trailers),
    Claim("request trailers reach the handler", "S32", _request_trailers, _NO_REQUEST_TRAILERS),
    Claim("103 (Early Hints) on HTTP/1.1", "S33", _early_hints),
]
