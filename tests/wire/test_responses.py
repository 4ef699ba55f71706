"""What a client does by whole messages is what it does step by step, for any responses, by Hypothesis.

`MessageConnection.send_prepared` and `next_response` take the shortest way through an exchange, and remember
the response that came last. Three clients make the same exchanges here: one in that way, one by
`send_request`, `next_head` and `next_data`, and one on the h11 face, which remembers nothing. Bytes, results,
errors, states and what is left over have to be the same in each step.
"""

from __future__ import annotations

import itertools
from typing import Any, TypeAlias

import hypothesis.strategies as st
from hypothesis import event, example, given, settings

import trio_http.wire as wire
from tests.wire.test_properties import FRAGMENTS, SMALL, cut

#: Method, further header fields and content of a request.
Ask: TypeAlias = tuple[bytes, tuple[tuple[bytes, bytes], ...], bytes]
#: A request, and what comes after it, in pieces.
Exchange: TypeAlias = tuple[Ask, list[bytes]]

RESPONSES = [
    b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nab",
    b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nac",
    b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\nX: y\r\n\r\nab",
    b"HTTP/1.1 204 No Content\r\n\r\n",
    b"HTTP/1.1 304 Not Modified\r\nContent-Length: 2\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\nT: v\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nab",
    b"HTTP/1.1 200 OK\r\n\r\nab",
    b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nab",
    b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\nConnection: keep-alive\r\n\r\nab",
    b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n",
    b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\nleft over",
    b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nab",
    b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nab",
    b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nab",
    b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nabHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nab",
    b"HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\n\r\nab",
    b"HTTP/1.1 200 OK\nContent-Length: 2\n\nab",
    b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 1100\r\n\r\n" + b"x" * 1100,
    b"\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nab",
    b"HTTP/1.1 200 \r\nContent-Length: 2\r\n\r\nab",
]
PLAIN = RESPONSES[0]
UPGRADE = ((b"Connection", b"upgrade"), (b"Upgrade", b"echo"))

asks: st.SearchStrategy[Ask] = st.tuples(
    st.sampled_from([b"GET", b"GET", b"HEAD", b"POST", b"CONNECT", b"OPTIONS", b"DELETE"]),
    st.sampled_from([(), (), (), ((b"X", b"y"),), ((b"Connection", b"close"),), UPGRADE]),
    st.sampled_from([b"", b"", b"content"]),
)


@st.composite
def answers(draw: st.DrawFn) -> list[bytes]:
    """A response or something like it: whole as a rule, else with a byte changed, more behind it, or cut."""
    data = draw(st.sampled_from(RESPONSES[:4] * 3 + RESPONSES))
    match draw(st.sampled_from(["as it is"] * 6 + ["changed", "more", "garbage"])):
        case "changed":
            place = draw(st.integers(0, len(data) - 1))
            data = data[:place] + bytes([draw(st.integers(0, 255))]) + data[place + 1 :]
        case "more":
            data += draw(st.sampled_from([b"\r\n", b"x", *RESPONSES]))
        case "garbage":
            data = b"".join(draw(st.lists(st.sampled_from(FRAGMENTS), max_size=5)))
    return cut(data, draw(st.one_of(st.just([]), st.just([]), st.lists(st.integers(0, 300), max_size=3))))


class Stepwise:
    """A client on the message face, step by step.

    Attributes:
      seen: what came, data merged.
      error: what broke, if anything did: its kind, text and hint.
      framings: of the heads.
    """

    def __init__(self, limits: wire.Limits, lenient: frozenset[wire.Leniency]) -> None:
        self.conn: Any = self.made(limits, lenient)
        self.seen: list[Any] = []
        self.error: Any = None
        self.framings: list[int] = []
        self.within = False

    def made(self, limits: wire.Limits, lenient: frozenset[wire.Leniency]) -> Any:
        return wire.MessageConnection(wire.CLIENT, limits, lenient)

    def send(self, ask: Ask) -> Any:
        """Send a request; return its bytes, or where it is at fault."""
        method, fields, content = ask
        try:
            return self.sent(
                method, b"h:1" if method == b"CONNECT" else b"/", [(b"Host", b"h"), *fields], content
            )
        except wire.LocalProtocolError as exc:
            return str(exc), exc.section

    def sent(self, method: bytes, target: bytes, fields: list[tuple[bytes, bytes]], content: bytes) -> bytes:
        data: bytes = self.conn.send_request(method, target, fields, content)
        return data

    def feed(self, data: bytes) -> None:
        self.conn.receive_data(data)
        if self.error is None:
            try:
                while self.take():
                    pass
            except wire.RemoteProtocolError as exc:
                self.error = type(exc), str(exc), exc.error_status_hint

    def take(self) -> bool:
        """Take the next of what came; tell whether there may be more."""
        if self.within:
            piece = self.conn.next_data()
            if piece is wire.NEED_DATA:
                return False
            self.see_data(piece)
            return True
        return self.see_head(self.conn.next_head())

    def see_data(self, piece: bytes) -> None:
        if not piece:
            self.seen.append(wire.EndOfMessage(headers=self.conn.trailers))
            self.within = False
        elif self.seen and isinstance(self.seen[-1], bytes):
            self.seen[-1] += piece
        else:
            self.seen.append(piece)

    def see_head(self, head: Any) -> bool:
        if head in (wire.NEED_DATA, wire.PAUSED):
            return False
        if head is wire.CLOSED:
            if self.seen[-1:] != [wire.ConnectionClosed()]:
                self.seen.append(wire.ConnectionClosed())
            return False
        kind = wire.InformationalResponse if head.status_code < 200 else wire.Response
        self.seen.append(
            kind(
                status_code=head.status_code,
                reason=head.reason,
                http_version=head.http_version,
                headers=head.headers,
            )
        )
        final = head.status_code >= 200
        if final:
            self.framings.append(head.framing)
        self.within = final and self.conn.their_state is not wire.SWITCHED_PROTOCOL
        return True

    def next_cycle(self) -> bool:
        """Begin the next exchange, if there can be one."""
        states = self.conn.our_state, self.conn.their_state
        if states != (wire.DONE, wire.DONE) or self.conn.trailing_data[0]:
            return False
        self.conn.start_next_cycle()
        return True

    @property
    def outcome(self) -> tuple[Any, ...]:
        conn = self.conn
        return self.seen, self.error, conn.states, conn.trailing_data, conn.their_http_version


class ByMessages(Stepwise):
    """The same by whole messages.

    Attributes:
      whole: how many responses came with their content.
    """

    whole = 0

    def sent(self, method: bytes, target: bytes, fields: list[tuple[bytes, bytes]], content: bytes) -> bytes:
        return bytes(self.conn.send_prepared(wire.prepare_request(method, target, fields, content)))

    def see_head(self, head: Any) -> bool:
        raise AssertionError("replaced by `take`")

    def take(self) -> bool:
        if self.within:
            return super().take()
        head, content = self.conn.next_response()
        if content is not None:
            assert isinstance(head, wire.ResponseHead)
            assert head.status_code >= 200
        more = super().see_head(head)
        if content is not None and self.conn.their_state is wire.SWITCHED_PROTOCOL:
            assert content == b"", "what is behind the answer to CONNECT is no content"
        elif content is not None:
            self.whole += 1
            self.see_data(content) if content else None
            self.see_data(b"")
            assert self.conn.next_data() == b"", "the message is complete"
        return more


class OnEvents(Stepwise):
    """The same on the h11 face."""

    def made(self, limits: wire.Limits, lenient: frozenset[wire.Leniency]) -> Any:
        return wire.Connection(wire.CLIENT, limits=limits, lenient=lenient)

    def sent(self, method: bytes, target: bytes, fields: list[tuple[bytes, bytes]], content: bytes) -> bytes:
        if content or method == b"POST":
            fields = [*fields, (b"Content-Length", b"%d" % len(content))]
        request = wire.Request(method=method, target=target, headers=fields)
        parts = [request, *([wire.Data(content)] if content else []), wire.EndOfMessage()]
        return b"".join(self.conn.send(part) or b"" for part in parts)

    def take(self) -> bool:
        came = self.conn.next_event()
        if came in (wire.NEED_DATA, wire.PAUSED):
            return False
        if type(came) is wire.Data:
            self.see_data(came.data)
        elif came == wire.ConnectionClosed():
            return self.see_head(wire.CLOSED)
        else:
            self.seen.append(came)
        return True


GET: Ask = (b"GET", (), b"")


@given(
    st.lists(st.tuples(asks, answers()), min_size=1, max_size=6),
    st.booleans(),
    st.sampled_from([wire.Limits(), SMALL]),
    st.frozensets(st.sampled_from(list(wire.Leniency))),
)
@settings(max_examples=400)
@example([(GET, [PLAIN])] * 3 + [((b"HEAD", (), b""), [PLAIN])], False, wire.Limits(), frozenset())
@example([(GET, [PLAIN])] * 2 + [((b"GET", UPGRADE, b""), [PLAIN])], False, wire.Limits(), frozenset())
@example([(GET, [PLAIN])] * 2 + [((b"CONNECT", (), b""), [PLAIN])], True, wire.Limits(), frozenset())
@example(
    [(GET, [PLAIN])] * 2 + [((b"GET", ((b"Connection", b"close"),), b""), [PLAIN])],
    True,
    wire.Limits(),
    frozenset(),
)
@example([(GET, [PLAIN]), (GET, [PLAIN + PLAIN]), (GET, [PLAIN])], True, wire.Limits(), frozenset())
@example([(GET, [PLAIN]), (GET, [PLAIN, PLAIN])], True, wire.Limits(), frozenset())
@example([(GET, [PLAIN]), (GET, [RESPONSES[16], PLAIN])], True, wire.Limits(), frozenset())
@example([(GET, [RESPONSES[14]])] * 4, False, SMALL, frozenset())  # the limit is of each exchange
def test_whole_messages_are_the_same_as_their_steps(
    exchanges: list[Exchange], ends: bool, limits: wire.Limits, lenient: frozenset[wire.Leniency]
) -> None:
    clients = [kind(limits, lenient) for kind in (ByMessages, Stepwise, OnEvents)]
    whole, stepwise, on_events = clients
    for ask, pieces in exchanges:
        sent = [client.send(ask) for client in clients]
        assert sent[0] == sent[1]
        assert isinstance(sent[1], bytes) is isinstance(sent[2], bytes)
        if not isinstance(sent[0], bytes):
            break
        assert sent[1] == sent[2]
        for piece in pieces:
            for client in clients:
                client.feed(piece)
            assert whole.outcome == stepwise.outcome
            assert whole.outcome == on_events.outcome
            assert whole.framings == stepwise.framings
            assert whole.conn.is_reusable == stepwise.conn.is_reusable
        if len({client.next_cycle() for client in clients if client.error is None}) > 1:
            raise AssertionError("one of them can go on, and another not")
        if whole.error is not None or whole.conn.our_state is not wire.IDLE:
            break
    event(f"{whole.whole} whole responses")  # type: ignore[attr-defined]
    if ends:
        for client in clients:
            client.feed(b"")
        assert whole.outcome == stepwise.outcome
        assert whole.outcome == on_events.outcome


@given(st.lists(st.tuples(st.integers(0, 3), st.sampled_from([b"GET", b"HEAD", b"DELETE"])), max_size=12))
@settings(max_examples=200)
def test_a_response_that_is_remembered_is_the_one_that_came(order: list[tuple[int, bytes]]) -> None:
    """The memory is asked at all, and never gives another response than that which is here."""
    conn = wire.MessageConnection(wire.CLIENT)
    last: Any = None
    for index, method in order:
        conn.send_prepared(wire.prepare_request(method, b"/", [(b"Host", b"h")]))
        response = RESPONSES[index]
        if method == b"HEAD":
            response = response.partition(b"\r\n\r\n")[0] + b"\r\n\r\n"
        conn.receive_data(response)
        head, content = conn.next_response()
        assert isinstance(head, wire.ResponseHead)
        assert (head.status_code, content) == (
            404 if index == 3 else 200,
            b"" if method == b"HEAD" else [b"ab", b"ac", b"", b"ab"][index],
        )
        if method != b"HEAD" and last is not None and last[0] == response:
            assert head is last[1], "the same again is not read again"
        last = (response, head) if method != b"HEAD" else None
        conn.start_next_cycle()


def test_every_pair_of_responses_one_after_the_other_is_read_as_it_came() -> None:
    """Exhaustively: each response after each other one, on the same connection, in each of three ways."""
    for method, first, second in itertools.product((b"GET", b"HEAD"), RESPONSES, RESPONSES):
        clients = [kind(wire.Limits(), frozenset()) for kind in (ByMessages, Stepwise, OnEvents)]
        for response in (first, first, second):
            results = [client.send((method, (), b"")) for client in clients]
            if not all(isinstance(result, bytes) for result in results):
                break
            for client in clients:
                client.feed(response)
            assert clients[0].outcome == clients[1].outcome == clients[2].outcome
            if {client.error is None and client.next_cycle() for client in clients} != {True}:
                break


@given(st.lists(st.tuples(asks, st.sampled_from([b"/", b"bad target", b"*"])), max_size=8))
@settings(max_examples=100)
def test_requests_that_are_prepared_on_one_connection_are_as_if_each_had_its_own(
    given: list[tuple[Ask, bytes]],
) -> None:
    """Whatever was prepared on it before, or refused; and it goes on to be fit for an exchange."""
    kept = wire.MessageConnection(wire.CLIENT)

    def prepared(conn: wire.MessageConnection, ask: Ask, target: bytes) -> Any:
        method, fields, content = ask
        try:
            request = conn.prepare_request(method, target, [(b"Host", b"h"), *fields], content)
        except wire.LocalProtocolError as exc:
            return str(exc)
        return request.data, request.following, request.plain, request.method

    for ask, target in given:
        assert prepared(kept, ask, target) == prepared(wire.MessageConnection(wire.CLIENT), ask, target)
    kept.send_request(b"GET", b"/", [(b"Host", b"h")], b"")
    kept.receive_data(PLAIN)
    assert kept.next_response()[1] == b"ab"
