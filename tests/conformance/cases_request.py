"""How the functions of a request, and of the response to it, are called."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

import trio
import trio.testing

from tests.conformance._cases import CLOSED, MISUSE, Failure, case
from tests.conformance._server_worlds import Handling, handling
from trio_http import (
    ClientDisconnected,
    HTTPException,
)

# ---------------------------------------------------------------------------------------------------- content


def with_content(content: bytes, content_type: str = "text/plain", *, length: int | None = None) -> bytes:
    length = len(content) if length is None else length
    head = f"POST / HTTP/1.1\r\nHost: a\r\nContent-Type: {content_type}\r\nContent-Length: {length}\r\n\r\n"
    return head.encode() + content


FORM = "application/x-www-form-urlencoded"
CONTENTS: dict[str, tuple[bytes, object]] = {
    "read": (with_content(b"12"), b"12"),
    "text": (with_content(b"12"), "12"),
    "json": (with_content(b"12"), 12),
    "form": (with_content(b"a=b", FORM), [("a", "b")]),
}


async def _reset(scene: Handling) -> None:
    scene.client.reset()


async def _disconnected_body(scene: Handling) -> None:
    await scene.request.body.receive_some()


def _fails_to_read(name: str) -> list[Failure]:
    async def read(scene: Handling) -> None:
        await getattr(scene.request, name)()

    async def read_little(scene: Handling) -> None:
        await getattr(scene.request, name)(1)

    sent = CONTENTS[name][0]
    cut = sent.replace(b"Content-Length: ", b"Content-Length: 1")
    fails = [
        Failure(read_little, HTTPException),
        Failure(read, RuntimeError, prepare=read, at_once=MISUSE),
        Failure(read, ClientDisconnected, world=handling(cut), prepare=_reset),
    ]
    if name == "json":
        fails.append(Failure(read, HTTPException, world=handling(with_content(b"none"))))
    if name == "form":
        fails.append(Failure(read, HTTPException, world=handling(with_content(b"a=b"))))
    return fails


for name, (sent, expected) in CONTENTS.items():

    @case(
        f"trio_http.Request.{name}",
        world=handling(sent),
        check=Handling.see_settled,
        fails=_fails_to_read(name),
    )
    async def _(scene: Handling, name: str = name, expected: object = expected) -> None:
        assert await getattr(scene.request, name)() == expected

    @case(
        f"trio_http.Request.{name}",
        world=handling(sent, max_buffer_bytes=1),
        check=Handling.see_settled,
        variant="bit by bit",
    )
    async def _(scene: Handling, name: str = name, expected: object = expected) -> None:
        assert await getattr(scene.request, name)() == expected


@case("trio_http.RequestBody.aclose", world=handling(), check=Handling.see_settled)
async def _(scene: Handling) -> None:
    await scene.request.body.aclose()


# -------------------------------------------------------------------------------------------------- answering


async def _hint(scene: Handling) -> None:
    await scene.request.send_informational(103, headers={"link": "</style.css>"})


async def _hint_wrongly(scene: Handling) -> None:
    await scene.request.send_informational(200)


@case(
    "trio_http.Request.send_informational",
    world=handling(),
    check=Handling.see_settled,
    fails=[
        Failure(_hint, ClientDisconnected, prepare=_reset, spoils=True),
        Failure(_hint_wrongly, ValueError, at_once=MISUSE),
    ],
)
async def _(scene: Handling) -> None:
    await _hint(scene)


async def _reset_later(scene: Handling) -> None:
    await trio.sleep(1)
    scene.client.reset()


@contextlib.asynccontextmanager
async def _leaving_soon() -> AsyncIterator[Handling]:
    async with handling()() as scene, trio.open_nursery() as nursery:
        nursery.start_soon(_reset_later, scene)
        yield scene
        nursery.cancel_scope.cancel()


@case("trio_http.Request.wait_disconnected", world=_leaving_soon)
async def _(scene: Handling) -> None:
    with scene.request.finish(within=5):
        await scene.request.wait_disconnected()


@case("trio_http.Request.wait_disconnected", world=handling(prepare=_reset), variant="gone already")
async def _(scene: Handling) -> None:
    await scene.request.wait_disconnected()


async def _respond(scene: Handling) -> None:
    async with scene.request.stream_response() as body:
        await body.send_all(b"piece")


@case(
    "trio_http.Request.stream_response()",
    world=handling(),
    check=Handling.see_settled,
    fails=[Failure(_respond, ClientDisconnected, prepare=_reset, spoils=True)],
)
async def _(scene: Handling) -> None:
    await _respond(scene)


async def _enter(scene: Handling) -> None:
    scene.value = await scene.request.stream_response().__aenter__()


async def _make_stream(scene: Handling) -> None:
    scene.value = scene.request.stream_response()


async def _enter_made(scene: Handling) -> None:
    await scene.value.__aenter__()


@case(
    "trio_http.ResponseStream.__aenter__",
    world=handling(prepare=_make_stream),
    check=Handling.see_settled,
    fails=[Failure(_enter_made, ClientDisconnected, prepare=_reset, spoils=True)],
)
async def _(scene: Handling) -> None:
    with trio.testing.assert_checkpoints():
        await scene.value.__aenter__()
    await scene.value.__aexit__(None, None, None)


begun = handling(prepare=_enter)


async def _leave(scene: Handling) -> None:
    await scene.value.__aexit__(None, None, None)


@case(
    "trio_http.ResponseStream.__aexit__",
    world=begun,
    check=Handling.see_settled,
    fails=[Failure(_leave, ClientDisconnected, prepare=_reset, spoils=True)],
)
async def _(scene: Handling) -> None:
    await _leave(scene)


async def _send(scene: Handling) -> None:
    await scene.value.send_all(b"piece")


async def _send_text(scene: Handling) -> None:
    await scene.value.send_all("text")


async def _fail_to_send(scene: Handling) -> None:
    await _reset(scene)
    with contextlib.suppress(ClientDisconnected):
        await _send(scene)


async def _wait_to_send(scene: Handling) -> None:
    await scene.value.wait_send_all_might_not_block()


_SEND_FAILS: dict[Callable[[Handling], Awaitable[None]], list[Failure]] = {
    call: [
        Failure(call, ClientDisconnected, prepare=_reset, spoils=True),
        Failure(call, ClientDisconnected, prepare=_fail_to_send, spoils=True),
        Failure(call, trio.ClosedResourceError, prepare=_leave, at_once=CLOSED),
    ]
    for call in (_send, _wait_to_send)
}


@case(
    "trio_http.ResponseStream.send_all",
    world=begun,
    check=Handling.see_settled,
    fails=[*_SEND_FAILS[_send], Failure(_send_text, TypeError, at_once=MISUSE)],
)
async def _(scene: Handling) -> None:
    await _send(scene)
    await _leave(scene)


@case(
    "trio_http.ResponseStream.wait_send_all_might_not_block",
    world=begun,
    check=Handling.see_settled,
    fails=_SEND_FAILS[_wait_to_send],
)
async def _(scene: Handling) -> None:
    await _wait_to_send(scene)
    await _leave(scene)


def _is_cut(scene: Handling) -> None:
    assert scene.server.closed or not scene.received.endswith(b"0\r\n\r\n")


@case("trio_http.ResponseStream.aclose", world=begun, check=_is_cut)
async def _(scene: Handling) -> None:
    await scene.value.aclose()


UPGRADING = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n"
CONNECTING = b"CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n"


async def _upgrade(scene: Handling) -> None:
    async with scene.request.upgrade("echo") as stream:
        await stream.send_all(b"hello")


async def _tunnel(scene: Handling) -> None:
    async with scene.request.tunnel() as stream:
        await stream.send_all(b"hello")


async def _end_without_answer(scene: Handling) -> None:
    """See that the connection is not used for anything else once it was handed over."""
    if b"HTTP/1.1 101" in scene.received or b"HTTP/1.1 200" in scene.received:
        await trio.testing.wait_all_tasks_blocked()
        assert scene.server.closed
        assert not scene.received.endswith(b"well")


for name, call, request in [("upgrade", _upgrade, UPGRADING), ("tunnel", _tunnel, CONNECTING)]:

    @case(
        f"trio_http.Request.{name}()",
        world=handling(request),
        check=_end_without_answer,
        fails=[Failure(call, ClientDisconnected, prepare=_reset, spoils=True)],
    )
    async def _(scene: Handling, call: Callable[[Handling], Awaitable[None]] = call) -> None:
        await call(scene)
