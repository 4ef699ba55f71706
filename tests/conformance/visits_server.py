"""The server's synchronous functions, each called at least once; and those of instruments."""

from __future__ import annotations

import math
import socket
from typing import Any

import trio

from tests.conformance._cases import Visit, family
from tests.conformance._server_worlds import handling
from tests.conformance.cases_request import CONNECTING, UPGRADING, with_content
from tests.conformance.cases_server import app, one_server
from tests.transport._peers import SERVER_CERTIFICATE
from tests.transport._peers import server_context as server_context_of_tests
from trio_http import (
    AccessLog,
    ClientExchangeRecord,
    ClientInstrument,
    ConnectionInfo,
    Counters,
    DialRecord,
    HarRecorder,
    Headers,
    HTTPException,
    Request,
    RequestBody,
    ResponseStream,
    Server,
    ServerInstrument,
    by_server_name,
    inherited_listener,
    server_context,
    systemd_listeners,
)
from trio_http.instruments import (
    ClientCloseRecord,
    ClientInstruments,
    CloseRecord,
    ConnectionRecord,
    ExchangeRecord,
    Instruments,
    Redaction,
)
from trio_http.server import check_handler
from trio_http.testing import memory_pair
from trio_http.transport import transport_over


def visit_functions(visit: Visit) -> None:
    """Visit the server's functions among those of the package itself."""
    context = server_context_of_tests()
    visit("by_server_name", lambda: by_server_name({"a": context}, default=context))
    with SERVER_CERTIFICATE.private_key_and_cert_chain_pem.tempfile() as path:
        visit("server_context", lambda: server_context(path))
    listening = socket.create_server(("127.0.0.1", 0))
    listener = visit("inherited_listener", lambda: inherited_listener(listening.fileno()))
    listener.socket.close()
    listening.detach()
    visit("systemd_listeners", lambda: systemd_listeners(environ={}), raises=RuntimeError)


@family("trio_http.server", "check_handler")
async def _(visit: Visit) -> None:
    visit("check_handler", lambda: check_handler(app))


@family(
    "trio_http.Request",
    "__init__ stream_response upgrade tunnel cancel_on_drain finish limit_body",
    looks=True,
)
async def _(visit: Visit) -> None:
    async with handling(with_content(b"12"))() as scene:
        request = scene.request
        visit("__init__", lambda: Request(request._link, request._head, request._common))
        visit.look_at(request)
        visit("limit_body", lambda: request.limit_body(10))
        visit("cancel_on_drain", request.cancel_on_drain)
        visit("finish", lambda: request.finish(within=1))
        visit("stream_response", request.stream_response)
    async with handling(UPGRADING)() as scene:
        visit("upgrade", lambda: scene.request.upgrade("echo"))
    async with handling(CONNECTING)() as scene:
        visit("tunnel", scene.request.tunnel)


@family("trio_http.RequestBody", "__init__", looks=True)
async def _(visit: Visit) -> None:
    async with handling(with_content(b"12"))() as scene:
        visit.look_at(visit("__init__", lambda: RequestBody(scene.request._link, 1)))


@family("trio_http.ResponseStream", "__init__")
async def _(visit: Visit) -> None:
    async with handling()() as scene:
        assert isinstance(visit("__init__", lambda: scene.request.stream_response()), ResponseStream)


@family("trio_http.ConnectionInfo", "__init__", looks=True)
async def _(visit: Visit) -> None:
    async with handling()() as scene:
        visit.look_at(visit("__init__", lambda: ConnectionInfo(scene.request._link)))


@family("trio_http.ConnectionSnapshot", "as_dict")
async def _(visit: Visit) -> None:
    async with one_server() as arranged, trio.open_nursery() as nursery:
        client, stream = memory_pair()
        nursery.start_soon(arranged.server.serve_transport, transport_over(stream))
        await trio.testing.wait_all_tasks_blocked()
        (snapshot,) = arranged.server.snapshot()
        visit("as_dict", snapshot.as_dict)
        await client.aclose()


@family(
    "trio_http.Server",
    "__init__ statistics snapshot replace_ssl_context begin_shutdown on_deadline admit refuse admit_stream"
    " refuse_stream",
    looks=True,
)
async def _(visit: Visit) -> None:
    async with one_server() as arranged:
        shared = arranged.server._shared
        context = server_context_of_tests()
        listener = (await trio.open_tcp_listeners(0, host="127.0.0.1"))[0]
        server = visit("__init__", lambda: Server(app, shared, [listener], context))
        await listener.aclose()
        visit.look_at(server)
        visit("statistics", server.statistics)
        visit("snapshot", server.snapshot)
        visit("replace_ssl_context", lambda: server.replace_ssl_context(context))
        for name in ("admit", "refuse", "admit_stream", "refuse_stream"):
            visit(name, lambda name=name: getattr(server, name)(arranged.nursery))
        visit("begin_shutdown", lambda: server.begin_shutdown(10))
        visit("on_deadline", server.on_deadline)


@family("trio_http.HTTPException", "__init__", looks=True)
async def _(visit: Visit) -> None:
    visit.look_at(visit("__init__", lambda: HTTPException(404)))


# ------------------------------------------------------------------------------------------------ instruments

CONNECTION = ConnectionRecord(1, ("192.0.2.1", 1), ("192.0.2.2", 80), None, 0, 0)
EXCHANGE = ExchangeRecord(
    CONNECTION, 1, "GET", "/", "1.1", Headers(), 200, 0, 2, 0, 0, 1, None, ValueError("no"), "192.0.2.1"
)
CLOSING = CloseRecord(CONNECTION, 1, 1, "client")
DIAL = DialRecord(id=1, origin="http://a", started=0, started_at=0, finished=1)
CLIENT_EXCHANGE = ClientExchangeRecord(
    request_number=1,
    method="GET",
    url="http://a/",
    target="/",
    headers=Headers(),
    started=0,
    started_at=0,
    finished=1,
    outcome="complete",
)
SERVER_HOOKS: dict[str, tuple[Any, ...]] = {
    "connection_opened": (CONNECTION,),
    "connection_refused": (None, "too many connections"),
    "exchange_started": (CONNECTION, 1, "GET", "/"),
    "handler_failed": (EXCHANGE,),
    "exchange_finished": (EXCHANGE,),
    "connection_closed": (CLOSING,),
}
CLIENT_HOOKS: dict[str, tuple[Any, ...]] = {
    "dial_finished": (DIAL,),
    "exchange_started": (1, 1, "GET", "http://a/"),
    "exchange_finished": (CLIENT_EXCHANGE,),
}
NAMES = " ".join(SERVER_HOOKS)
CLIENT_NAMES = "dial_finished connection_closed exchange_started exchange_finished"


def call_hooks(visit: Visit, instrument: object, hooks: dict[str, tuple[Any, ...]]) -> None:
    for name, args in hooks.items():
        if f"{visit.prefix}{name}" in visit.names:
            visit(name, lambda name=name, args=args: getattr(instrument, name)(*args))


def call_client_hooks(visit: Visit, instrument: object) -> None:
    call_hooks(visit, instrument, CLIENT_HOOKS)
    closing = ClientCloseRecord(connection=DIAL, exchanges=1, duration=1, why="idle")
    if f"{visit.prefix}connection_closed" in visit.names:
        visit("connection_closed", lambda: instrument.connection_closed(closing))


@family("trio_http.ServerInstrument", NAMES)
async def _(visit: Visit) -> None:
    call_hooks(visit, ServerInstrument(), SERVER_HOOKS)


@family("trio_http.Counters", f"__init__ {NAMES} cumulative_durations")
async def _(visit: Visit) -> None:
    counters = visit("__init__", Counters)
    call_hooks(visit, counters, SERVER_HOOKS)
    assert visit("cumulative_durations", counters.cumulative_durations)[-1][0] == math.inf


@family("trio_http.AccessLog", "__init__ exchange_finished")
async def _(visit: Visit) -> None:
    call_hooks(visit, visit("__init__", AccessLog), SERVER_HOOKS)


@family("trio_http.instruments.Instruments", "__init__ " + NAMES.replace("handler_failed ", ""), looks=True)
async def _(visit: Visit) -> None:
    instruments = visit("__init__", lambda: Instruments([Counters()]))
    call_hooks(visit, instruments, SERVER_HOOKS)
    visit.look_at(instruments)


@family("trio_http.ClientInstrument", CLIENT_NAMES)
async def _(visit: Visit) -> None:
    call_client_hooks(visit, ClientInstrument())


@family("trio_http.instruments.ClientInstruments", f"__init__ {CLIENT_NAMES}", looks=True)
async def _(visit: Visit) -> None:
    instruments = visit("__init__", lambda: ClientInstruments([HarRecorder()]))
    call_client_hooks(visit, instruments)
    visit.look_at(instruments)


@family("trio_http.HarRecorder", "__init__ exchange_finished clear har")
async def _(visit: Visit) -> None:
    recorder = visit("__init__", HarRecorder)
    call_client_hooks(visit, recorder)
    assert visit("har", recorder.har)["log"]["entries"]
    visit("clear", recorder.clear)


@family("trio_http.ClientExchangeRecord", looks=True)
async def _(visit: Visit) -> None:
    visit.look_at(CLIENT_EXCHANGE)


@family("trio_http.DialRecord", looks=True)
async def _(visit: Visit) -> None:
    visit.look_at(DIAL)


@family("trio_http.instruments.Redaction", "__init__ of")
async def _(visit: Visit) -> None:
    redaction = visit("__init__", Redaction)
    visit("of", lambda: redaction.of([(b"Cookie", b"a=b")]))
