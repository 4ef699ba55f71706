"""What holds for any bytes and any message, by Hypothesis.

1. Split invariance: how the bytes were divided into receives changes neither events nor error.
2. Totality: any bytes end in events or a `RemoteProtocolError`.
3. Round trip: what one side sends, the other receives, and both agree on all states.
4. Framing agreement: what the writer chose, the reader finds.
5. Bounded memory: the buffer never holds more than its limit and one receive.
6. An error stands: whatever comes later, the peer stays in ERROR, and no event comes any more.
7. The two faces agree: on what is read, on the bytes that are written, on states and errors.
"""

from __future__ import annotations

import itertools
from typing import Any

import hypothesis.strategies as st
from hypothesis import example, given, settings

import trio_http.wire as wire

# Fragments from which nearly-HTTP is put together; plain random bytes seldom get past the first byte.
FRAGMENTS = [
    b"GET ",
    b"POST ",
    b"HEAD ",
    b"CONNECT ",
    b"FROB ",
    b"/",
    b"*",
    b"/a?b",
    b"http://h/p",
    b"h:1",
    b" HTTP/1.1",
    b" HTTP/1.0",
    b" HTTP/1.2",
    b" HTTP/2.0",
    b"HTTP/1.1 ",
    b"HTTP/1.0 ",
    b"200 OK",
    b"100 Continue",
    b"101 ",
    b"204 ",
    b"304 ",
    b"404",
    b"\r\n",
    b"\r\n",
    b"\r\n",
    b"\r\n\r\n",
    b"\n",
    b"\r",
    b" ",
    b"\t",
    b":",
    b"Host: a",
    b"Host: a\r\n",
    b"Host: a/b\r\n",
    b"Content-Length: 3\r\n",
    b"Content-Length: 3, 3\r\n",
    b"Content-Length: -1\r\n",
    b"Content-Length: 0\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Transfer-Encoding: gzip\r\n",
    b"Connection: close\r\n",
    b"Connection: keep-alive\r\n",
    b"Connection: upgrade\r\nUpgrade: x\r\n",
    b"Expect: 100-continue\r\n",
    b"X: \x01\r\n",
    b"X : y\r\n",
    b"X: y\r\n z\r\n",
    b"abc",
    b"3\r\nabc\r\n",
    b"3;a=b\r\nabc\r\n",
    b"3;a=b\r\nabc",
    b"\n0\r\n\r\n",
    b"3\nabc\n",
    b"0\r\n\r\n",
    b"0\r\nT: v\r\n\r\n",
    b"5\r\nab",
    b"ffffffff\r\n",
    b"\x00",
    b"\x16\x03\x01",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"\xff",
    b"GET / HTTP/1.1\r\nHost: a\r\n",
    b"POST / HTTP/1.1\r\nHost: a\r\n",
    b"HTTP/1.1 200 OK\r\n",
]

nearly_http = st.lists(st.one_of(st.sampled_from(FRAGMENTS), st.binary(max_size=4)), max_size=14).map(
    b"".join
)
roles = st.sampled_from([wire.SERVER, wire.CLIENT])
methods = st.sampled_from([b"GET", b"HEAD", b"CONNECT", b"POST"])
SMALL = wire.Limits(
    max_head_bytes=120,
    max_fields=4,
    max_target_bytes=20,
    max_chunk_extension_bytes=8,
    max_trailer_bytes=40,
    max_trailers=2,
    max_interim=2,
)
limits = st.sampled_from([wire.Limits(), SMALL])
leniencies = st.frozensets(st.sampled_from(list(wire.Leniency)))


def cut(data: bytes, places: list[int]) -> list[bytes]:
    """Return ``data`` in pieces that end at ``places``, empty ones left out."""
    edges = sorted({0, len(data), *(place % (len(data) + 1) for place in places)})
    return [data[a:b] for a, b in itertools.pairwise(edges)]


class Reader:
    """Plays one side on the h11 face: notes what comes, data merged, and answers so that the next exchange
    begins."""

    def __init__(
        self, role: Any, method: bytes, limits: wire.Limits, lenient: frozenset[wire.Leniency]
    ) -> None:
        self.conn = wire.Connection(role, limits=limits, lenient=lenient)
        self.seen: list[Any] = []
        self.error: wire.RemoteProtocolError | None = None
        if role is wire.CLIENT:
            target = b"h:1" if method == b"CONNECT" else b"/"
            self.conn.send(wire.Request(method=method, target=target, headers=[("Host", "h")]))
            self.conn.send(wire.EndOfMessage())

    def feed(self, data: bytes) -> None:
        self.conn.receive_data(data)
        while self.error is None:
            try:
                event = self.conn.next_event()
            except wire.RemoteProtocolError as exc:
                self.error = exc
                return
            if event is wire.NEED_DATA or event is wire.PAUSED:
                return
            if type(event) is wire.Data:
                if self.seen and isinstance(self.seen[-1], bytes):
                    self.seen[-1] += event.data
                else:
                    self.seen.append(event.data)
                continue
            if self.seen and event == self.seen[-1] == wire.ConnectionClosed():
                return
            self.seen.append(event)
            if type(event) is wire.EndOfMessage and self.conn.our_role is wire.SERVER:
                self.answer()

    def answer(self) -> None:
        conn = self.conn
        if conn.our_state is wire.SEND_RESPONSE:
            conn.send(wire.Response(status_code=404, headers=[("Content-Length", "0")]))
            conn.send(wire.EndOfMessage())
        if conn.our_state is wire.DONE and conn.their_state is wire.DONE:
            conn.start_next_cycle()

    @property
    def outcome(self) -> tuple[Any, ...]:
        error = self.error and (str(self.error), self.error.error_status_hint)
        return self.seen, error, self.conn.their_state


@given(
    nearly_http,
    st.lists(st.integers(0, 10_000), max_size=8),
    roles,
    methods,
    limits,
    leniencies,
    st.booleans(),
)
@settings(max_examples=600)
@example(
    b"GET  / HTTP/1.1\r\nHost: a\n\r\n\r\n", [17], wire.SERVER, b"GET", wire.Limits(), frozenset(), False
)
@example(  # a body once ended at this bare LF, and only when it came in one receive
    b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3;a=b\r\nabc\n0\r\n\r\n",
    [62],
    wire.SERVER,
    b"GET",
    wire.Limits(),
    frozenset(),
    False,
)
@example(b"\x16GET / HTTP/1.1\r\n\r\n", [1], wire.SERVER, b"GET", wire.Limits(), frozenset(), False)
def test_splits_change_nothing(
    data: bytes, places: list[int], role: Any, method: bytes, limits: wire.Limits, lenient: Any, ends: bool
) -> None:
    outcomes = []
    for pieces in ([data] if data else [], cut(data, places), [data[i : i + 1] for i in range(len(data))]):
        reader = Reader(role, method, limits, lenient)
        for piece in pieces:
            reader.feed(piece)
        if ends:
            reader.feed(b"")
        outcomes.append(reader.outcome)
    whole, split, bytewise = outcomes
    assert split == whole
    assert bytewise == whole


@given(st.binary(max_size=300), roles, methods)
@settings(max_examples=300)
def test_any_bytes_end_in_events_or_a_remote_protocol_error(data: bytes, role: Any, method: bytes) -> None:
    reader = Reader(role, method, wire.Limits(), frozenset())
    reader.feed(data) if data else None
    reader.feed(b"")
    assert reader.error is not None or reader.seen[-1] == wire.ConnectionClosed()


@given(nearly_http, nearly_http, roles)
def test_an_error_stands(data: bytes, more: bytes, role: Any) -> None:
    reader = Reader(role, b"GET", SMALL, frozenset())
    reader.feed(data + b"\x00\r\n\r\n" * 40)
    assert reader.error is not None
    assert reader.conn.their_state is wire.ERROR
    if more:
        reader.conn.receive_data(more)
    for _ in range(2):
        try:
            reader.conn.next_event()
        except wire.RemoteProtocolError:
            continue
        raise AssertionError("an event came after the error")


@given(st.lists(nearly_http, max_size=12), roles)
def test_memory_is_bounded_by_the_limit_and_one_receive(pieces: list[bytes], role: Any) -> None:
    reader = Reader(role, b"GET", SMALL, frozenset())
    bound = max(SMALL.max_head_bytes, SMALL.max_trailer_bytes, SMALL.max_chunk_extension_bytes + 22)
    for piece in pieces:
        if piece and reader.error is None:
            reader.feed(piece)
            held = len(reader.conn.trailing_data[0])
            paused = reader.conn.their_state in (
                wire.DONE,
                wire.MIGHT_SWITCH_PROTOCOL,
                wire.SWITCHED_PROTOCOL,
            )
            # Held back on purpose, for what comes after this exchange: the caller stops receiving then.
            assert reader.error or paused or held <= bound, "more is held than the limits allow"


tokens = st.text("abcdefghijklmnopqrstuvwxyzABC-!#_09", min_size=1, max_size=8).map(str.encode)
values = st.text(
    st.characters(min_codepoint=0x21, max_codepoint=0xFF, exclude_characters="\x7f"), max_size=12
).map(lambda text: text.encode("latin-1"))
plain_fields = st.lists(
    st.tuples(
        tokens.filter(
            lambda name: (
                name.lower()
                not in (b"host", b"connection", b"upgrade", b"expect", b"te", b"trailer", b"content-length")
            )
        ),
        values.filter(lambda value: value.strip() == value),
    ),
    max_size=4,
)
contents = st.lists(st.binary(min_size=1, max_size=40), max_size=4)


def merged(events: list[Any]) -> tuple[Any, bytes, Any]:
    head, *data, end = events
    assert all(type(event) is wire.Data for event in data)
    return head, b"".join(event.data for event in data), end


def receive(conn: wire.Connection, data: bytes, places: list[int]) -> list[Any]:
    events: list[Any] = []
    for piece in cut(data, places):
        conn.receive_data(piece)
        while (event := conn.next_event()) not in (wire.NEED_DATA, wire.PAUSED):
            events.append(event)
    return events


@given(
    st.sampled_from([b"GET", b"POST", b"PUT", b"HEAD", b"DELETE", b"OPTIONS"]),
    plain_fields,
    contents,
    st.booleans(),
    plain_fields,
    st.sampled_from([200, 201, 204, 304, 404, 500]),
    plain_fields,
    contents,
    st.booleans(),
    st.booleans(),
    st.lists(st.integers(0, 500), max_size=5),
)
@settings(max_examples=400)
def test_what_one_side_sends_the_other_receives(
    method: bytes,
    request_fields: Any,
    upload: list[bytes],
    upload_chunked: bool,
    trailers: Any,
    status: int,
    response_fields: Any,
    download: list[bytes],
    declared: bool,
    close: bool,
    places: list[int],
) -> None:
    client, server = wire.Connection(wire.CLIENT), wire.Connection(wire.SERVER)
    framing = (
        [("Transfer-Encoding", "chunked")]
        if upload_chunked
        else [("Content-Length", str(len(b"".join(upload))))]
    )
    request = wire.Request(method=method, target="/x", headers=[("Host", "h"), *framing, *request_fields])
    end = wire.EndOfMessage(headers=trailers if upload_chunked else [])
    sent = b"".join(client.send(event) or b"" for event in (request, *map(wire.Data, upload), end))
    got, content, got_end = merged(receive(server, sent, places))
    assert (got.method, got.target, content) == (method, b"/x", b"".join(upload))
    assert sorted(got.headers.raw_items()) == sorted(request.headers.raw_items())
    assert got_end.headers == end.headers
    assert client.states == server.states

    bodiless = method == b"HEAD" or status in (204, 304)
    body = [] if bodiless else download
    fields = [*response_fields, *([("Connection", "close")] if close else [])]
    if declared and not bodiless:
        fields.append(("Content-Length", str(len(b"".join(body)))))
    response = wire.Response(status_code=status, headers=fields, reason=b"As you wish")
    sent = b"".join(
        server.send(event) or b"" for event in (response, *map(wire.Data, body), wire.EndOfMessage())
    )
    got, content, _ = merged(receive(client, sent, places))
    assert (got.status_code, got.reason, content) == (status, b"As you wish", b"".join(body))
    assert client.states == server.states
    if close:
        assert client.our_state is client.their_state is wire.MUST_CLOSE
    else:
        client.start_next_cycle()
        server.start_next_cycle()


@given(nearly_http, st.lists(st.integers(0, 10_000), max_size=4), roles, methods, limits, leniencies)
@settings(max_examples=500)
def test_both_faces_read_the_same(
    data: bytes, places: list[int], role: Any, method: bytes, limits: wire.Limits, lenient: Any
) -> None:
    events = Reader(role, method, limits, lenient)
    messages = MessageReader(role, method, limits, lenient)
    for piece in [*cut(data, places), b""]:
        events.feed(piece)
        messages.feed(piece)
    assert messages.outcome == events.outcome
    assert messages.conn.states == events.conn.states
    assert messages.conn.trailing_data == events.conn.trailing_data


class MessageReader(Reader):
    """The same on the message face, noting events as the h11 face would give them."""

    conn: Any

    def __init__(
        self, role: Any, method: bytes, limits: wire.Limits, lenient: frozenset[wire.Leniency]
    ) -> None:
        self.conn = wire.MessageConnection(role, limits, lenient)
        self.seen = []
        self.error = None
        self.within = False
        if role is wire.CLIENT:
            self.conn.send_request(method, b"h:1" if method == b"CONNECT" else b"/", [("Host", "h")], b"")
            # What the h11 face of the reader above sent has no Content-Length either, whatever the method.

    def feed(self, data: bytes) -> None:
        self.conn.receive_data(data)
        try:
            while self.take():
                pass
        except wire.RemoteProtocolError as exc:
            self.error = self.error or exc

    def take(self) -> bool:
        if self.error is not None:
            return False
        if self.within:
            piece = self.conn.next_data()
            if piece is wire.NEED_DATA:
                return False
            if piece:
                self.seen[-1:] = (
                    [self.seen[-1] + piece] if isinstance(self.seen[-1], bytes) else [self.seen[-1], piece]
                )
            else:
                self.seen.append(wire.EndOfMessage(headers=self.conn.trailers))
                self.within = False
                if self.conn.our_role is wire.SERVER:
                    self.answer()
            return True
        head = self.conn.next_head()
        if head in (wire.NEED_DATA, wire.PAUSED):
            return False
        if head is wire.CLOSED:
            if self.seen[-1:] != [wire.ConnectionClosed()]:
                self.seen.append(wire.ConnectionClosed())
            return False
        self.seen.append(self.event_of(head))
        final = type(self.seen[-1]) is not wire.InformationalResponse
        self.within = final and self.conn.their_state is not wire.SWITCHED_PROTOCOL
        return True

    def event_of(self, head: Any) -> Any:
        if isinstance(head, wire.RequestHead):
            return wire.Request(
                method=head.method, target=head.target, http_version=head.http_version, headers=head.headers
            )
        kind = wire.InformationalResponse if head.status_code < 200 else wire.Response
        return kind(
            status_code=head.status_code,
            reason=head.reason,
            http_version=head.http_version,
            headers=head.headers,
        )

    def answer(self) -> None:
        conn = self.conn
        if conn.our_state is wire.SEND_RESPONSE:
            conn.send_response(404, [("Content-Length", "0")], b"")
        if conn.our_state is wire.DONE and conn.their_state is wire.DONE:
            conn.start_next_cycle()


@given(
    st.sampled_from([b"GET", b"HEAD", b"POST", b"CONNECT"]),
    st.sampled_from([b"1.1", b"1.0"]),
    st.booleans(),
    st.integers(190, 1000),
    plain_fields,
    st.binary(max_size=30),
    st.booleans(),
    st.sampled_from([None, b"", b"Fine"]),
    st.sampled_from(
        [(), (("Connection", "close"),), (("Content-Length", "5"),), (("Transfer-Encoding", "chunked"),)]
    ),
)
@settings(max_examples=500)
def test_both_faces_write_the_same_response(
    method: bytes,
    version: bytes,
    keep: bool,
    status: int,
    fields: Any,
    content: bytes,
    whole: bool,
    reason: Any,
    special: Any,
) -> None:
    target = b"h:1" if method == b"CONNECT" else b"/"
    request = b"%s %s HTTP/%s\r\nHost: h\r\n%s\r\n" % (
        method,
        target,
        version,
        b"Connection: keep-alive\r\n" if keep else b"",
    )
    events, messages = wire.Connection(wire.SERVER), wire.MessageConnection(wire.SERVER)
    for conn in (events, messages):
        conn.receive_data(request)
    events.next_event(), events.next_event()
    messages.next_head(), messages.next_data() if messages.their_state is wire.SEND_BODY else None
    fields = [*fields, *special]
    from_messages = attempt(lambda: by_messages(messages, status, fields, content, whole, reason))
    from_events = attempt(lambda: by_events(events, status, fields, content, whole, reason, method))
    assert from_messages == from_events
    assert messages.states == events.states


def attempt(step: Any) -> Any:
    try:
        return step()
    except wire.LocalProtocolError as exc:
        return type(exc), exc.section


def by_messages(conn: Any, status: int, fields: Any, content: bytes, whole: bool, reason: Any) -> bytes:
    if whole:
        return conn.send_response(status, fields, content, reason=reason)
    head = conn.send_response(status, fields, reason=reason)
    if status < 200 or conn.our_state is wire.SWITCHED_PROTOCOL:
        return head
    return head + (conn.send_data(content) if content else b"") + conn.send_end()


def by_events(
    conn: Any, status: int, fields: Any, content: bytes, whole: bool, reason: Any, method: bytes
) -> bytes:
    headers = wire.Headers(fields)
    unframed = headers.get("content-length") is headers.get("transfer-encoding") is None
    if whole and unframed and status >= 200 and (content or status not in (204, 304)):
        headers = wire.Headers([*fields, ("Content-Length", str(len(content)))])
    if reason is None:
        reason = wire_reason(status)
    kind = wire.InformationalResponse if status < 200 else wire.Response
    response = kind(status_code=status, headers=headers, reason=reason)
    if whole and status < 200 and content:
        raise wire.LocalProtocolError("no content", section="RFC 9110 §15.2")
    out = conn.send(response)
    if status < 200:
        return out
    if conn.our_state is wire.SWITCHED_PROTOCOL:
        if whole and content:
            conn.send_failed()
            raise wire.LocalProtocolError("no content", section="RFC 9110 §9.3.6")
        return out
    if content and not (whole and method == b"HEAD"):
        out += conn.send(wire.Data(content))
    return out + conn.send(wire.EndOfMessage())


def wire_reason(status: int) -> bytes:
    from http import HTTPStatus

    try:
        return HTTPStatus(status).phrase.encode()
    except ValueError:
        return b""


REPEATED = [
    b"GET / HTTP/1.1\r\nHost: h\r\n\r\n",
    b"GET /x HTTP/1.1\r\nHost: h\r\n\r\n",
    b"HEAD / HTTP/1.1\r\nHost: h\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: h\r\nUpgrade: echo\r\nConnection: upgrade\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nab",
    b"GET / HTTP/1.0\r\nHost: h\r\nConnection: keep-alive\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: h\r\n\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n",
]


@given(st.lists(st.sampled_from(REPEATED), max_size=8), st.lists(st.integers(0, 300), max_size=2))
@settings(max_examples=500)
def test_requests_that_repeat_themselves_are_read_as_ever(requests: list[bytes], places: list[int]) -> None:
    """The message face remembers a request that came whole; the h11 face does not."""
    events = Reader(wire.SERVER, b"GET", wire.Limits(), frozenset())
    messages = MessageReader(wire.SERVER, b"GET", wire.Limits(), frozenset())
    for piece in [*requests, *cut(b"".join(requests), places)]:
        events.feed(piece)
        messages.feed(piece)
        assert messages.outcome == events.outcome
        assert messages.conn.states == events.conn.states
        assert messages.conn.trailing_data == events.conn.trailing_data
        assert (
            messages.conn.they_are_waiting_for_100_continue == events.conn.they_are_waiting_for_100_continue
        )


def test_a_response_with_the_same_fields_again_is_written_as_ever() -> None:
    conn = wire.MessageConnection(wire.SERVER)
    texts = [wire.Headers([("A", "1")]), wire.Headers([("B", "2")]), wire.Headers([("Date", "mine")])]
    commons = [
        wire.Headers([("Date", "d1"), ("Server", "s")]),
        wire.Headers([("Date", "d2")]),
        wire.Headers(),
    ]
    pairs = [(text, common) for text in texts for common in commons for _ in range(2)]
    for text, common in [*pairs, *reversed(pairs)]:
        conn.receive_data(REPEATED[0])
        assert isinstance(conn.next_head(), wire.RequestHead)
        written = conn.send_response(200, text, b"xy", common=common)
        conn.start_next_cycle()
        names = {name for name, _ in text}
        lines = [*text.raw_items(), *(pair for pair in common.raw_items() if pair[0].lower() not in names)]
        assert written == b"HTTP/1.1 200 OK\r\n%sContent-Length: 2\r\n\r\nxy" % b"".join(
            b"%s: %s\r\n" % line for line in lines
        )
