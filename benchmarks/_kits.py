"""The contenders of the wire benchmark: h11, httptools, and the two faces of this project's wire.

Each is driven as a server or a client drives it, and hands over the same facts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import cycle
from typing import Any

import _harness  # noqa: F401 - first of all: it puts this checkout in front of an installed trio_http
import _traffic as traffic

Facts = tuple[Any, Any, Any, Any, Any]
"""first, second, version, fields, body: as a contender has them, not yet brought to one form."""

Exchange = Callable[[traffic.Message], tuple[Facts, bytes]]
"""One whole cycle: the facts found in the message, and the bytes written."""

Receive = Callable[[bytes, Sequence[bytes]], int]
"""Receive a head, then a body in the given pieces, on a new connection; return the length of the content."""

HEADS = 1024
"""How many different messages are used in turn: more than anyone remembers, few enough for the caches."""

H11, HTTPTOOLS, FACE, MESSAGE = "h11", "httptools", "ours, h11 face", "ours, message face"


@dataclass(frozen=True, slots=True)
class Kit:
    """What one contender brings to the cases, made anew for each case."""

    server: Callable[[], Exchange]
    client: Callable[[], Exchange]
    receive: Receive


def h11_kit(h11: Any) -> Kit:
    """Return the kit of h11 or of anything with its face: the code is the same, only the module differs."""

    def server() -> Exchange:
        conn = h11.Connection(h11.SERVER)
        fields = [
            (b"content-type", traffic.ANSWER_TYPE),
            (b"content-length", b"%d" % len(traffic.ANSWER_BODY)),
        ]

        def exchange(message: traffic.Message) -> tuple[Facts, bytes]:
            conn.receive_data(message.data)
            request = conn.next_event()
            headers = request.headers
            headers[-1]
            body = b""
            while type(event := conn.next_event()) is h11.Data:
                body += event.data
            answer = conn.send(h11.Response(status_code=200, headers=fields, reason=b"OK"))
            answer += conn.send(h11.Data(data=traffic.ANSWER_BODY))
            answer += conn.send(h11.EndOfMessage())
            conn.start_next_cycle()
            return (request.method, request.target, request.http_version, headers, body), answer

        return exchange

    def client() -> Exchange:
        conn = h11.Connection(h11.CLIENT)
        requests = cycle(traffic.many(traffic.client_request, HEADS))

        def exchange(message: traffic.Message) -> tuple[Facts, bytes]:
            request = next(requests)
            sent = conn.send(h11.Request(method=request.first, target=request.second, headers=request.fields))
            sent += conn.send(h11.EndOfMessage())
            conn.receive_data(message.data)
            response = conn.next_event()
            headers = response.headers
            headers[-1]
            body = b""
            while type(event := conn.next_event()) is h11.Data:
                body += event.data
            conn.start_next_cycle()
            return (response.status_code, response.reason, response.http_version, headers, body), sent

        return exchange

    def receive(head: bytes, pieces: Sequence[bytes]) -> int:
        conn = h11.Connection(h11.SERVER)
        conn.receive_data(head)
        conn.next_event()
        length = 0
        event = None
        for piece in pieces:
            conn.receive_data(piece)
            while type(event := conn.next_event()) is h11.Data:
                length += len(event.data)
        assert type(event) is h11.EndOfMessage
        return length

    return Kit(server, client, receive)


def message_kit(wire: Any) -> Kit:
    """Return the kit of `trio_http.wire.MessageConnection`.

    It gives the same list of fields to each answer that h11 is given, to be checked each time; a server that
    keeps its usual fields as one checked `Headers` object would save that.
    """

    def server() -> Exchange:
        conn = wire.MessageConnection(wire.SERVER)
        fields = [(b"content-type", traffic.ANSWER_TYPE)]

        def exchange(message: traffic.Message) -> tuple[Facts, bytes]:
            conn.receive_data(message.data)
            head = conn.next_head()
            headers = head.headers
            headers[-1]
            body = b""
            while data := conn.next_data():
                body += data
            answer = conn.send_response(200, fields, traffic.ANSWER_BODY)
            conn.start_next_cycle()
            return (head.method, head.target, head.http_version, headers, body), answer

        return exchange

    def client() -> Exchange:
        conn = wire.MessageConnection(wire.CLIENT)
        requests = cycle(traffic.many(traffic.client_request, HEADS))

        def exchange(message: traffic.Message) -> tuple[Facts, bytes]:
            request = next(requests)
            sent = conn.send_request(request.first, request.second, request.fields, b"")
            conn.receive_data(message.data)
            head = conn.next_head()
            headers = head.headers
            headers[-1]
            body = b""
            while data := conn.next_data():
                body += data
            conn.start_next_cycle()
            return (head.status_code, head.reason, head.http_version, headers, body), sent

        return exchange

    def receive(head: bytes, pieces: Sequence[bytes]) -> int:
        conn = wire.MessageConnection(wire.SERVER)
        need_data = wire.NEED_DATA
        conn.receive_data(head)
        conn.next_head()
        length = 0
        data = need_data
        for piece in pieces:
            conn.receive_data(piece)
            while (data := conn.next_data()) is not need_data and data:
                length += len(data)
        assert data == b""
        return length

    return Kit(server, client, receive)


def httptools_kit(httptools: Any) -> Kit:
    """Return the kit of httptools (llhttp in C) under callbacks in Python."""

    class Collector:
        """The callbacks of one connection. What they leave behind is what h11's events say."""

        parser: Any
        target: bytes
        reason: bytes
        fields: traffic.Fields
        body: bytes
        length = 0
        done = False

        def on_message_begin(self) -> None:
            self.target = self.reason = self.body = b""
            self.fields = []
            self.done = False

        def on_url(self, url: bytes) -> None:
            self.target += url

        def on_status(self, status: bytes) -> None:
            self.reason += status

        def on_header(self, name: bytes, value: bytes) -> None:
            self.fields.append((name.lower(), value))

        def on_headers_complete(self) -> None:
            self.version = self.parser.get_http_version()

        def on_body(self, body: bytes) -> None:
            self.body += body

        def on_message_complete(self) -> None:
            self.done = True

    class Counter(Collector):
        """The same for a long body, which is counted and not kept."""

        def on_body(self, body: bytes) -> None:
            self.length += len(body)

    def server() -> Exchange:
        found = Collector()
        parser = found.parser = httptools.HttpRequestParser(found)
        body = traffic.ANSWER_BODY

        def exchange(message: traffic.Message) -> tuple[Facts, bytes]:
            parser.feed_data(message.data)
            assert found.done
            fields = found.fields
            fields[-1]
            answer = b"".join((
                b"HTTP/1.1 200 OK\r\ncontent-type: ", traffic.ANSWER_TYPE,
                b"\r\ncontent-length: ", b"%d" % len(body), b"\r\n\r\n", body,
            ))  # fmt: skip
            return (parser.get_method(), found.target, found.version, fields, found.body), answer

        return exchange

    def client() -> Exchange:
        found = Collector()
        parser = found.parser = httptools.HttpResponseParser(found)
        requests = cycle(traffic.many(traffic.client_request, HEADS))

        def exchange(message: traffic.Message) -> tuple[Facts, bytes]:
            request = next(requests)
            parts = [request.first, b" ", request.second, b" HTTP/1.1\r\n"]
            for name, value in request.fields:
                parts += (name, b": ", value, b"\r\n")
            parts.append(b"\r\n")
            sent = b"".join(parts)
            parser.feed_data(message.data)
            assert found.done
            fields = found.fields
            fields[-1]
            return (parser.get_status_code(), found.reason, found.version, fields, found.body), sent

        return exchange

    def receive(head: bytes, pieces: Sequence[bytes]) -> int:
        found = Counter()
        parser = found.parser = httptools.HttpRequestParser(found)
        parser.feed_data(head)
        for piece in pieces:
            parser.feed_data(piece)
        assert found.done
        return found.length

    return Kit(server, client, receive)


def kits() -> dict[str, Callable[[], Kit]]:
    """Return each contender's name and what makes its kit (ImportError: the library is absent)."""

    def of_h11() -> Kit:
        import h11

        return h11_kit(h11)

    def of_httptools() -> Kit:
        import httptools

        return httptools_kit(httptools)

    def of_face() -> Kit:
        from trio_http import wire
        from trio_http.wire import Connection  # noqa: F401 - an ImportError where there is no face yet

        return h11_kit(wire)

    def of_message() -> Kit:
        from trio_http import wire
        from trio_http.wire import MessageConnection  # noqa: F401 - as above

        return message_kit(wire)

    return {H11: of_h11, HTTPTOOLS: of_httptools, FACE: of_face, MESSAGE: of_message}
