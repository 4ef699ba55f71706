"""Run a conformance vector (form: `vector_format.py`) on either face of the wire layer, and note the events.

Both faces are brought to the same steps, and the steps to the lines of an ``events`` block, so that a vector
and the runs of it can be compared as lists of text.
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import trio_http.wire as wire
from tests.wire.vector_format import Vector, escape

# Random splits a vector, seeded by its id: the runs of tomorrow are those of today.
RANDOM_SPLITS = 6

Fields = list[tuple[bytes, bytes]]


def field_lines(fields: Fields) -> list[str]:
    return [f"  {escape(name)}: {escape(value)}" for name, value in fields]


def status_line(kind: str, status: int, version: bytes, reason: bytes) -> str:
    return f"{kind} {status} {escape(version)} {escape(reason)}".rstrip(" ")


class EventFace:
    """The h11 face, one step at a time.

    `step` gives ``("need",)``, ``("paused",)``, ``("closed",)``, ``("head", lines)``, ``("end", lines)``, or
    for content ``("data", bytes, extension)``.
    """

    shows_extensions = True

    def __init__(self, vector: Vector) -> None:
        options: dict[str, Any] = {"limits": wire.Limits(**vector.limits)} if vector.limits else {}
        self.conn = wire.Connection(role_of(vector), lenient=leniencies_of(vector), **options)

    def step(self) -> tuple[Any, ...]:
        event = self.conn.next_event()
        if event is wire.NEED_DATA:
            return ("need",)
        if event is wire.PAUSED:
            return ("paused",)
        match event:
            case wire.Request():
                line = f"Request {escape(event.method)} {escape(event.target)} {escape(event.http_version)}"
                return "head", [line, *field_lines(event.headers.raw_items())]
            case wire.InformationalResponse() | wire.Response():
                kind = "Response" if type(event) is wire.Response else "Interim"
                line = status_line(kind, event.status_code, event.http_version, event.reason)
                return "head", [line, *field_lines(event.headers.raw_items())]
            case wire.Data():
                return "data", bytes(event.data), event.chunk_extension if event.chunk_start else b""
            case wire.EndOfMessage():
                return "end", ["EndOfMessage", *field_lines(event.headers.raw_items())]
            case wire.ConnectionClosed():
                return ("closed",)
        raise AssertionError(f"no event: {event!r}")

    def send_request(self, method: bytes, target: bytes, fields: Fields, *, whole: bool) -> bytes:
        out = self.conn.send(wire.Request(method=method, target=target, headers=fields))
        assert out is not None
        return out + (self.conn.send(wire.EndOfMessage()) or b"") if whole else out

    def send_response(self, status: int, fields: Fields) -> bytes:
        kind = wire.InformationalResponse if status < 200 else wire.Response
        out = self.conn.send(kind(status_code=status, headers=fields))
        assert out is not None
        if status < 200 or self.conn.our_state is wire.SWITCHED_PROTOCOL:
            return out
        return out + (self.conn.send(wire.EndOfMessage()) or b"")


class MessageFace:
    """The message face, in the same steps."""

    shows_extensions = False

    def __init__(self, vector: Vector) -> None:
        limits = wire.Limits(**vector.limits)
        self.conn = wire.MessageConnection(role_of(vector), limits, leniencies_of(vector))
        self._head: Any = None  # whose body is being read
        self._length = 0

    def step(self) -> tuple[Any, ...]:
        if self._head is not None:
            return self._step_in_body()
        head: Any = self.conn.next_head()
        if head is wire.NEED_DATA:
            return ("need",)
        if head is wire.PAUSED:
            return ("paused",)
        if head is wire.CLOSED:
            return ("closed",)
        version = head.http_version
        fields = field_lines(head.headers.raw_items())
        if isinstance(head, wire.RequestHead):
            self._begin_body(head)
            return "head", [f"Request {escape(head.method)} {escape(head.target)} {escape(version)}", *fields]
        assert isinstance(head, wire.ResponseHead)
        kind = "Interim" if head.status_code < 200 else "Response"
        if kind == "Response" and self.conn.their_state is not wire.SWITCHED_PROTOCOL:
            self._begin_body(head)
        return "head", [status_line(kind, head.status_code, version, head.reason), *fields]

    def _begin_body(self, head: Any) -> None:
        self._head, self._length = head, 0

    def _step_in_body(self) -> tuple[Any, ...]:
        piece: Any = self.conn.next_data()
        if piece is wire.NEED_DATA:
            return ("need",)
        if piece:
            self._length += len(piece)
            return "data", piece, b""
        declared = self._head.content_length
        if declared is not None:
            assert self._length == declared, "the head's content_length is not what came"
        self._head = None
        return "end", ["EndOfMessage", *field_lines(self.conn.trailers.raw_items())]

    def send_request(self, method: bytes, target: bytes, fields: Fields, *, whole: bool) -> bytes:
        return self.conn.send_request(method, target, fields, b"" if whole else None)

    def send_response(self, status: int, fields: Fields) -> bytes:
        # Without reason and content, as the events have none: then both faces must write the same.
        out = self.conn.send_response(status, fields, reason=b"")
        if status < 200 or self.conn.our_state is wire.SWITCHED_PROTOCOL:
            return out
        return out + self.conn.send_end()


FACES: dict[str, Callable[[Vector], EventFace | MessageFace]] = {"events": EventFace, "messages": MessageFace}


def role_of(vector: Vector) -> Any:
    return wire.SERVER if vector.role == "server" else wire.CLIENT


def leniencies_of(vector: Vector) -> frozenset[wire.Leniency]:
    return frozenset(wire.Leniency[name] for name in vector.lenient)


class Run:
    """One run of a vector: plays the other half of the exchange, and writes down what happens.

    Args:
      hold: requests to leave unanswered from this one on (0: the first), until `release`; None: none.
    """

    _WITHIN_MESSAGE = (wire.SEND_RESPONSE, wire.SEND_BODY)

    def __init__(
        self, vector: Vector, face: Callable[[Vector], EventFace | MessageFace], hold: int | None = None
    ) -> None:
        self.vector = vector
        self.face = face(vector)
        self.conn = self.face.conn
        self.lines: list[str] = []
        self.sent = b""
        self.error: wire.RemoteProtocolError | None = None
        self._content = bytearray()
        self._extensions = b""
        self._rest: tuple[Any, ...] = ("need",)
        self._start_line = ""
        self._unanswered = False
        self._ended = 0
        self._hold = hold
        if vector.answers_late or vector.answer == ():
            self._hold = 0
        self._requests = list(vector.requests)
        self.send_next_request()

    def feed(self, data: bytes) -> None:
        """Receive some bytes, or the end of the stream, and take all that can be taken from them."""
        self.conn.receive_data(data)
        self._pump()

    def release(self) -> None:
        """Answer the request that was held."""
        self._hold = None
        if self._unanswered and self.error is None:
            self._answer()
            if self._rest != ("closed",):
                self._pump()

    def finish(self) -> list[str]:
        """Return the events, with how things stand as the last line."""
        if self.vector.answers_late:
            self.release()
        self._flush()
        said = self.error is not None or self.lines[-1:] == ["ConnectionClosed"]
        return self.lines + ([] if said else [self._standing()])

    def _standing(self) -> str:
        ours, theirs = self.conn.our_state, self.conn.their_state
        left, closed = self.conn.trailing_data
        if theirs is wire.SWITCHED_PROTOCOL:
            return f'SWITCHED_PROTOCOL "{escape(left)}"' + (" EOF" if closed else "")
        if self._rest == ("paused",):
            return f'PAUSED "{escape(left)}"'
        if theirs is wire.MUST_CLOSE or (ours is wire.MUST_CLOSE and theirs not in self._WITHIN_MESSAGE):
            return "MUST_CLOSE"
        return "IDLE" if ours is theirs is wire.IDLE and not left else "NEED_DATA"

    def _pump(self) -> None:
        while self.error is None:
            try:
                self._rest = self.face.step()
            except wire.RemoteProtocolError as exc:
                self._flush()
                self.error = exc
                hint = f" {exc.error_status_hint}" if self.vector.role == "server" else ""
                self.lines.append(f"error{hint} {exc.section}".rstrip(" "))
                return
            match self._rest:
                case ("need" | "paused",):
                    return
                case ("closed",):
                    self._flush()
                    if "ConnectionClosed" not in self.lines:
                        self.lines.append("ConnectionClosed")
                    return
                case ("data", content, extension):
                    self._content += content
                    self._extensions += extension
                case ("head", lines):
                    self.lines += lines
                    self._start_line = lines[0]
                    if self.conn.they_are_waiting_for_100_continue:
                        self.lines.append("expects 100-continue")
                case ("end", lines):
                    self._flush()
                    self.lines += lines
                    self._exchange_read()

    def _flush(self) -> None:
        if self._extensions and self.face.shows_extensions:
            self.lines.append(f'Extension "{escape(self._extensions)}"')
        if self._content:
            self.lines.append(f'Data "{escape(bytes(self._content))}"')
        self._extensions, self._content = b"", bytearray()

    def _exchange_read(self) -> None:
        if self.vector.role == "client":
            self._go_on()
            return
        if self.conn.their_state is wire.MIGHT_SWITCH_PROTOCOL:
            self.lines.append("MIGHT_SWITCH_PROTOCOL")
        self._ended += 1
        self._unanswered = True
        if self._hold is None or self._ended <= self._hold:
            self._answer()

    def _answer(self) -> None:
        self._unanswered = False
        for status in self.vector.answer or (200,):
            tunnel = status == 200 and self._start_line.startswith("Request CONNECT ")
            fields = [(b"Content-Length", b"0")] if status >= 200 and not tunnel else []
            if status == 101:
                fields = [(b"Upgrade", b"echo"), (b"Connection", b"upgrade")]
            out = self.face.send_response(status, fields)
            self.sent += out
            if self.vector.answer is not None:
                self._show_answer(out)
        self._go_on()

    def _show_answer(self, out: bytes) -> None:
        start, *fields = out.split(b"\r\n\r\n")[0].split(b"\r\n")
        self.lines.append(f"Answer {start.split(b' ')[1].decode()}")
        self.lines += [f"  {escape(line)}" for line in fields]

    def _go_on(self) -> None:
        if self.conn.our_state is self.conn.their_state is wire.DONE:
            self.conn.start_next_cycle()

    def send_next_request(self) -> None:
        """Send a request of the vector, if there is one left and the connection is fit for it."""
        if not self._requests or self.conn.our_state is not wire.IDLE:
            return
        method, words = self._requests.pop(0)
        tunnel = method == "CONNECT"
        fields = [(b"Host", b"example.com:443" if tunnel else b"example.com")]
        if "close" in words:
            fields.append((b"Connection", b"close"))
        if "upgrade" in words:
            fields += [(b"Connection", b"upgrade"), (b"Upgrade", b"echo")]
        if "expect" in words:
            fields.append((b"Expect", b"100-continue"))
        unfinished = bool(words & {"unfinished", "expect"})
        if unfinished:
            fields.append((b"Content-Length", b"3"))
        target = b"example.com:443" if tunnel else b"/"
        self.sent += self.face.send_request(method.encode(), target, fields, whole=not unfinished)


def play(
    vector: Vector, face: str, cuts: Iterable[int] = (), *, behind: bytes = b"", eof: bool | None = None
) -> Run:
    """Run a vector.

    Args:
      cuts: places in its data, and in what is behind, at which one piece ends and the next begins; to these
        come its marks.
      behind: bytes that follow its own.
      eof: whether the stream ends then; None: as the vector says.
    """
    run = Run(vector, FACES[face])
    data = vector.data + behind
    begin = 0
    for end in sorted({*cuts, *vector.marks, len(data)} - {0}):
        run.feed(data[begin:end])
        begin = end
        if end in vector.marks:
            run.send_next_request()
    if vector.eof if eof is None else eof:
        run.feed(b"")
    return run


def expected_of(vector: Vector, face: str) -> list[str]:
    if FACES[face] is EventFace:
        return list(vector.events)
    return [line for line in vector.events if not line.startswith("Extension ")]


def check(run: Run, face: str, how: str) -> None:
    expected, actual = expected_of(run.vector, face), run.finish()
    why = f"; {run.error}" if run.error else ""
    assert actual == expected, f"{run.vector.id}, {face} face, {how}{why}"


def random_cuts(vector: Vector) -> Iterator[tuple[int, list[int]]]:
    for index in range(RANDOM_SPLITS):
        seed = zlib.crc32(f"{vector.id} {index}".encode())
        choose = random.Random(seed)
        places = range(1, len(vector.data))
        yield seed, sorted(choose.sample(places, min(len(places), choose.randint(1, 8))))
