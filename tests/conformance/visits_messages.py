"""The synchronous functions of messages and of the wire, each called at least once."""

from __future__ import annotations

import gzip
from typing import Any

import trio

from tests.conformance._cases import Visit, family
from tests.conformance.cases_bodies import Body
from trio_http import Headers, Lines, LineTooLong, Networks, Response, wire
from trio_http.messages import (
    ContentCodingError,
    ContentDecoder,
    ContentEncoder,
    ContentTooExpanded,
    Pieces,
    as_wire_headers,
    charset_of,
    client_of,
    decode_text,
    decoder_for,
    peer_facts,
)

FIELDS = [("Host", "a"), ("X-A", "1"), ("X-A", "2")]
TEXT = Headers({"Content-Type": "text/plain; charset=utf-8"})


@family("trio_http.Headers", "__init__ __getitem__ get get_all __contains__ items end_to_end", looks=True)
async def _(visit: Visit) -> None:
    headers = visit("__init__", lambda: Headers(FIELDS))
    visit("__getitem__", lambda: headers["host"])
    visit("get", lambda: headers.get("none"))
    visit("get_all", lambda: headers.get_all("x-a"))
    visit("__contains__", lambda: "host" in headers)
    visit("items", lambda: list(headers.items()))
    visit("end_to_end", headers.end_to_end)
    visit.look_at(headers)


@family("trio_http.Response", "__init__ json", looks=True)
async def _(visit: Visit) -> None:
    response = visit("__init__", lambda: Response(json=[1]))
    assert visit("json", response.json) == [1]
    visit.look_at(response)


@family("trio_http.Lines", "__init__ __aiter__")
async def _(visit: Visit) -> None:
    lines = visit("__init__", lambda: Lines(Body([]), TEXT))
    visit("__aiter__", lambda: aiter(lines))


@family("trio_http.LineTooLong", "__init__", looks=True)
async def _(visit: Visit) -> None:
    visit.look_at(visit("__init__", lambda: LineTooLong(1, 10)))


@family("trio_http.MessageBody", "__init__ __aiter__", looks=True)
async def _(visit: Visit) -> None:
    body = visit("__init__", lambda: Body([]))
    visit("__aiter__", lambda: aiter(body))
    visit.look_at(body)


@family("trio_http.Networks", "of __contains__ contains_host", looks=True)
async def _(visit: Visit) -> None:
    networks = visit("of", lambda: Networks.of(["192.0.2.0/24"]))
    visit("__contains__", lambda: ("192.0.2.1", 1) in networks)
    visit("contains_host", lambda: networks.contains_host("192.0.2.1"))
    visit.look_at(networks)


@family("trio_http.messages", "as_wire_headers charset_of client_of decode_text decoder_for peer_facts")
async def _(visit: Visit) -> None:
    peer = ("192.0.2.1", 1)
    visit("as_wire_headers", lambda: as_wire_headers(FIELDS))
    visit("charset_of", lambda: charset_of(TEXT))
    visit("client_of", lambda: client_of(TEXT, peer, Networks.of(["192.0.2.1"])))
    visit("decode_text", lambda: decode_text(b"text", TEXT))
    visit("decoder_for", lambda: decoder_for(b"gzip"))
    visit("peer_facts", lambda: peer_facts(peer))


@family("trio_http.messages.ContentDecoder", "__init__ feed take finish", looks=True)
async def _(visit: Visit) -> None:
    decoder = visit("__init__", lambda: ContentDecoder(["gzip"]))
    visit("feed", lambda: decoder.feed(gzip.compress(b"text")))
    assert visit("take", decoder.take) == b"text"
    visit("finish", decoder.finish)
    visit.look_at(decoder)


@family("trio_http.messages.ContentEncoder", "__init__ encode flush finish", looks=True)
async def _(visit: Visit) -> None:
    encoder = visit("__init__", lambda: ContentEncoder("gzip"))
    visit("encode", lambda: encoder.encode(b"text"))
    visit("flush", encoder.flush)
    visit("finish", encoder.finish)
    visit.look_at(encoder)


@family("trio_http.messages.ContentCodingError", "__init__", looks=True)
async def _(visit: Visit) -> None:
    visit.look_at(visit("__init__", lambda: ContentCodingError("gzip", "cut")))


@family("trio_http.messages.ContentTooExpanded", "__init__")
async def _(visit: Visit) -> None:
    visit("__init__", lambda: ContentTooExpanded("gzip", 1, 10_000, 200))


@family("trio_http.messages.Pieces", "__init__ add joined")
async def _(visit: Visit) -> None:
    pieces = visit("__init__", Pieces)
    visit("add", lambda: pieces.add(b"a"))
    visit("joined", pieces.joined)


# --------------------------------------------------------------------------------------------------- the wire

WIRE_FIELDS = [(b"Host", b"a")]


@family("trio_http.wire", "prepare_request")
async def _(visit: Visit) -> None:
    visit("prepare_request", lambda: wire.prepare_request("GET", "/", WIRE_FIELDS))


@family(
    "trio_http.wire.Headers",
    "__init__ __getitem__ raw_items get get_all merged replaced sendable merge drop __contains__ index count",
    looks=True,
)
async def _(visit: Visit) -> None:
    headers = visit("__init__", lambda: wire.Headers(WIRE_FIELDS))
    pair = headers[0]
    visit("__getitem__", lambda: headers[0])
    visit("raw_items", headers.raw_items)
    visit("get", lambda: headers.get(b"host"))
    visit("get_all", lambda: headers.get_all(b"host"))
    visit("merged", lambda: headers.merged(wire.Headers([(b"Date", b"now")])))
    visit("replaced", lambda: headers.replaced(b"host", b"b"))
    visit("sendable", headers.sendable)
    visit("__contains__", lambda: pair in headers)
    visit("index", lambda: headers.index(pair))
    visit("count", lambda: headers.count(pair))
    visit.look_at(headers)
    connection = wire.MessageConnection(wire.SERVER)
    connection.receive_data(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    received = connection.next_head().headers
    visit("merge", lambda: received.merge(b"host", b"a"))
    visit("drop", lambda: received.drop(b"host"))


REQUEST = wire.Request(method="GET", target="/", headers=WIRE_FIELDS)


@family(
    "trio_http.wire.Connection",
    "__init__ next_event send send_with_data_passthrough receive_data send_failed start_next_cycle",
    looks=True,
)
async def _(visit: Visit) -> None:
    connection = visit("__init__", lambda: wire.Connection(wire.CLIENT))
    visit("send", lambda: connection.send(REQUEST))
    visit("send_with_data_passthrough", lambda: connection.send_with_data_passthrough(wire.EndOfMessage()))
    visit("receive_data", lambda: connection.receive_data(b"HTTP/1.1 204 No Content\r\n\r\n"))
    visit("next_event", connection.next_event)
    connection.next_event()
    visit.look_at(connection)
    visit("start_next_cycle", connection.start_next_cycle)
    visit("send_failed", connection.send_failed)


@family(
    "trio_http.wire.MessageConnection",
    "__init__ next_head next_response next_data send_request prepare_request send_prepared send_response"
    " send_data send_end send_close receive_data send_failed start_next_cycle",
    looks=True,
)
async def _(visit: Visit) -> None:
    def client() -> Any:
        return wire.MessageConnection(wire.CLIENT)

    ours = visit("__init__", client)
    theirs = wire.MessageConnection(wire.SERVER)
    prepared = visit("prepare_request", lambda: ours.prepare_request("GET", "/", WIRE_FIELDS))
    sent = visit("send_prepared", lambda: ours.send_prepared(prepared))
    visit("receive_data", lambda: theirs.receive_data(sent))
    visit("next_head", theirs.next_head)
    theirs.next_data()
    answer = visit("send_response", lambda: theirs.send_response(200, [(b"Content-Length", b"2")]))
    answer += visit("send_data", lambda: theirs.send_data(b"ab"))
    answer += visit("send_end", theirs.send_end)
    ours.receive_data(answer)
    visit("next_response", ours.next_response)
    while visit("next_data", ours.next_data):
        pass
    visit.look_at(ours)
    visit("start_next_cycle", ours.start_next_cycle)
    visit("send_close", ours.send_close)
    other = client()
    visit("send_request", lambda: other.send_request("GET", "/", WIRE_FIELDS))
    visit("send_failed", other.send_failed)


@family("trio_http.wire.PreparedRequest", "__init__", looks=True)
async def _(visit: Visit) -> None:
    visit.look_at(visit("__init__", lambda: wire.prepare_request("GET", "/", WIRE_FIELDS)))


@family("trio_http.wire.ProtocolError", "__init__", looks=True)
async def _(visit: Visit) -> None:
    visit.look_at(visit("__init__", lambda: wire.RemoteProtocolError("bad")))


@family("trio_http.wire.RequestHead", "__init__", looks=True)
async def _(visit: Visit) -> None:
    headers = wire.Headers(WIRE_FIELDS)
    visit.look_at(visit("__init__", lambda: wire.RequestHead(b"GET", b"/", b"1.1", headers)))


@family("trio_http.wire.ResponseHead", "__init__", looks=True)
async def _(visit: Visit) -> None:
    theirs = wire.MessageConnection(wire.CLIENT)
    theirs.send_request("GET", "/", WIRE_FIELDS)
    theirs.receive_data(b"HTTP/1.1 204 No Content\r\n\r\n")
    visit.look_at(visit("__init__", theirs.next_head))


@family("trio_http.wire.Sentinel", "__init__", looks=True)
async def _(visit: Visit) -> None:
    mark = visit("__init__", lambda: wire.Sentinel("MARK", (wire.Sentinel,), {}))
    visit("__repr__", lambda: repr(mark))
    await trio.lowlevel.checkpoint()


@family("trio_http.wire.Request", "__init__")
async def _(visit: Visit) -> None:
    visit("__init__", lambda: wire.Request(method="GET", target="/", headers=WIRE_FIELDS))


@family("trio_http.wire.Response", "__init__")
async def _(visit: Visit) -> None:
    visit("__init__", lambda: wire.Response(status_code=200, headers=[]))


@family("trio_http.wire.InformationalResponse", "__init__")
async def _(visit: Visit) -> None:
    visit("__init__", lambda: wire.InformationalResponse(status_code=103, headers=[]))


@family("trio_http.wire.Data", "__init__")
async def _(visit: Visit) -> None:
    visit("__init__", lambda: wire.Data(data=b"a"))


@family("trio_http.wire.EndOfMessage", "__init__")
async def _(visit: Visit) -> None:
    visit("__init__", wire.EndOfMessage)
