"""One input through three parsers, their verdicts side by side, and what the table of differences says of
them."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Iterable
from types import ModuleType
from typing import Any, Literal

import h11
import httptools

import trio_http.wire as wire
from tests.wire.corpus import Input, splits
from tests.wire.differences import Row, explanations

Pair = tuple[bytes, bytes]

# What became of the stream: an error; the end of the stream within a message; a clean end; bytes left for
# another protocol; bytes left behind a response. "open" is httptools', which cannot be told of the end.
Verdict = Literal["rejected", "incomplete", "closed", "switched", "excess", "open"]


@dataclasses.dataclass(slots=True)
class Message:
    """What was read of one message; interim responses are left out.

    Attributes:
      start: method, target and version; or status and version.
      at: where it begins in the input; -1 when the parser does not tell.
    """

    start: tuple[Any, ...]
    fields: list[Pair]
    body: bytes = b""
    trailers: list[Pair] = dataclasses.field(default_factory=list)
    complete: bool = False

    def facts(self) -> tuple[Any, ...]:
        return self.start, self.fields, self.body, self.trailers


@dataclasses.dataclass(slots=True)
class Outcome:
    """What a parser made of an input.

    Attributes:
      begins: where each message begins, and behind the last complete one; empty when the parser does not
      tell. error: the error that ended it, if one did.
    """

    messages: list[Message]
    verdict: Verdict = "closed"
    begins: list[int] = dataclasses.field(default_factory=list)
    error: Exception | None = None

    def complete(self) -> list[tuple[Any, ...]]:
        return [message.facts() for message in self.messages if message.complete]

    def __str__(self) -> str:
        error = f" {type(self.error).__name__}: {self.error}" if self.error else ""
        return f"{self.verdict}{error} {[message.facts() for message in self.messages]}"


class _EventDriver:
    """Drives a `Connection` of h11's kind as a plain program would: a server that answers 404, a client that
    asks once."""

    def __init__(self, lib: ModuleType, item: Input, pieces: Iterable[bytes] | None, **options: Any) -> None:
        self.lib = lib
        self.size = len(item.data)
        self.outcome = Outcome([], begins=[0])
        self.client = item.method is not None
        self.conn = lib.Connection(lib.CLIENT if self.client else lib.SERVER, **options)
        if item.method is not None:
            target = "a:1" if item.method == b"CONNECT" else "/"
            self.conn.send(lib.Request(method=item.method, target=target, headers=[("Host", "a")]))
            self.conn.send(lib.EndOfMessage())
        # An empty piece would end the stream.
        for piece in [item.data] if pieces is None else pieces:
            if piece and not self.run(piece, "rejected"):
                return
        self.run(b"", "incomplete")

    def run(self, data: bytes, failed: Verdict) -> bool:
        """Receive ``data``, take all events; return whether there may be more."""
        self.conn.receive_data(data)
        try:
            verdict = self.drain()
        except self.lib.RemoteProtocolError as error:
            # What the limit or the grammar refuses at the end alone was acceptable as far as it went.
            self.outcome.error = error
            verdict = failed
        if verdict is not None:
            self.outcome.verdict = verdict
        return verdict is None

    def drain(self) -> Verdict | None:
        lib, conn, messages = self.lib, self.conn, self.outcome.messages
        while True:
            event = conn.next_event()
            kind = type(event)
            if kind is lib.Request:
                messages.append(
                    Message((event.method, event.target, event.http_version), list(event.headers))
                )
            elif kind is lib.Response:
                messages.append(Message((event.status_code, event.http_version), list(event.headers)))
                if conn.their_state is lib.SWITCHED_PROTOCOL:
                    messages[-1].complete = True
            elif kind is lib.Data:
                messages[-1].body += event.data
            elif kind is lib.EndOfMessage:
                messages[-1].trailers = list(event.headers)
                messages[-1].complete = True
                self.outcome.begins.append(self.size - len(conn.trailing_data[0]))
                if not self.client:
                    conn.send(lib.Response(status_code=404, headers=[("Content-Length", "0")]))
                    conn.send(lib.EndOfMessage())
                    if conn.states == {lib.CLIENT: lib.DONE, lib.SERVER: lib.DONE}:
                        conn.start_next_cycle()
            elif kind is lib.ConnectionClosed:
                return "closed"
            elif event is lib.NEED_DATA:
                return None
            elif event is lib.PAUSED:
                return "switched" if conn.their_state is lib.SWITCHED_PROTOCOL else "excess"
            else:
                assert kind is lib.InformationalResponse, event


def run_events(
    lib: ModuleType, item: Input, pieces: Iterable[bytes] | None = None, **options: Any
) -> Outcome:
    """Return what ``lib`` makes of ``item``, received at once or in ``pieces``; ``options`` are its
    `Connection`'s."""
    return _EventDriver(lib, item, pieces, **options).outcome


class _Callbacks:
    """httptools' callbacks, in Python, building the same facts."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.parser: Any = None
        self.url = b""
        self.in_head = True

    def on_message_begin(self) -> None:
        self.url = b""
        self.in_head = True
        self.messages.append(Message((), []))

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        # httptools leaves whitespace behind a value, which is no part of it (RFC 9112 §5.1), and the case of
        # a coding's name, which has none (§7) and is lower in h11.
        pair = name.lower(), value.strip(b" \t")
        if pair[0] == b"transfer-encoding":
            pair = pair[0], pair[1].lower()
        message = self.messages[-1]
        (message.fields if self.in_head else message.trailers).append(pair)

    def on_headers_complete(self) -> None:
        self.in_head = False
        version = self.parser.get_http_version().encode()
        if isinstance(self.parser, httptools.HttpRequestParser):
            self.messages[-1].start = self.parser.get_method(), self.url, version
        else:
            self.messages[-1].start = self.parser.get_status_code(), version

    def on_body(self, body: bytes) -> None:
        self.messages[-1].body += body

    def on_message_complete(self) -> None:
        self.messages[-1].complete = True


def run_httptools(item: Input) -> Outcome:
    """Return what httptools makes of ``item``, interim responses left out as in the other parsers."""
    calls = _Callbacks()
    parser = (httptools.HttpRequestParser if item.method is None else httptools.HttpResponseParser)(calls)
    calls.parser = parser
    outcome = Outcome(calls.messages, "open")
    try:
        parser.feed_data(item.data)
    except httptools.HttpParserUpgrade:
        outcome.verdict = "switched"
    except httptools.HttpParserError as error:
        switched = "Upgrade" in str(error)  # it says so in this way when bytes follow
        outcome.verdict, outcome.error = ("switched", None) if switched else ("rejected", error)
    if item.method is not None:
        interim = [
            m for m in calls.messages if m.complete and m.start and m.start[0] < 200 and m.start[0] != 101
        ]
        outcome.messages = [message for message in calls.messages if message not in interim]
    return outcome


# ---- comparing

Kind = Literal["strict", "lenient", "facts"]


@dataclasses.dataclass(slots=True)
class Difference:
    """Where two parsers part.

    Attributes:
      kind: "strict" when only ours refuses, "lenient" when only the other does, "facts" when both accept.
      index: the first message on which they part.
      region: the input from where that message begins.
    """

    peer: str
    kind: Kind
    item: Input
    index: int
    region: bytes
    ours: Outcome
    theirs: Outcome


def _refused(outcome: Outcome, peer: str) -> bool:
    """Tell whether an outcome accepts no more. httptools judges byte by byte, we a line or a head at its end:
    a message that the end of the stream cuts off is accepted by neither, whoever says so first."""
    return outcome.verdict == "rejected" or (peer == "httptools" and outcome.verdict == "incomplete")


def compare(peer: str, item: Input, ours: Outcome, theirs: Outcome) -> Difference | None:
    """Return the first difference between two outcomes, or None. What follows a switch of protocol is not
    compared."""
    mine, others = ours.complete(), theirs.complete()
    if peer == "httptools" and theirs.verdict == "switched" and others:
        # It leaves the rest to another protocol, this message's body included: of it only the head can be
        # compared.
        last = len(others) - 1
        heads = [
            (message.start, message.fields) for message in (ours.messages[last:] or [Message((), [])])[:1]
        ]
        if heads == [others[last][:2]]:
            mine, others = mine[:last], others[:last]
    if peer == "httptools" and item.method is not None:
        mine, others = mine[:1], others[:1]  # it reads on as if every response had been asked for
    index = next(
        (i for i, (a, b) in enumerate(zip(mine, others, strict=False)) if a != b), min(len(mine), len(others))
    )
    kind: Kind | None = None
    if index < min(len(mine), len(others)):
        kind = "facts"
    elif theirs.verdict == "switched" and peer == "httptools" and len(others) <= len(mine):
        kind = None  # what follows, it leaves to another protocol
    elif len(mine) != len(others):
        kind = _one_sided(ours, theirs, fewer=len(mine) < len(others), peer=peer)
    elif peer == "httptools" and (ours.verdict == "incomplete" or theirs.verdict == "switched"):
        kind = None
    elif _refused(ours, peer) != _refused(theirs, peer):
        kind = "strict" if _refused(ours, peer) else "lenient"
    elif (ours.verdict != theirs.verdict and peer == "h11") or (
        not _refused(ours, peer)
        and peer == "h11"
        and [m.facts() for m in ours.messages] != [m.facts() for m in theirs.messages]
    ):
        kind = "facts"
    if kind is None:
        return None
    begin = ours.begins[min(index, len(ours.begins) - 1)]
    return Difference(peer, kind, item, index, item.data[begin:], ours, theirs)


def _one_sided(ours: Outcome, theirs: Outcome, *, fewer: bool, peer: str) -> Kind | None:
    """Return who refused the message that only one of the two has completed."""
    if fewer:
        return "strict" if _refused(ours, peer) else "facts"
    begun = len(theirs.messages) == len(ours.messages)
    if peer == "httptools" and theirs.verdict == "open" and ours.verdict == "closed" and begun:
        return None  # a message that the end of the stream completes, of which httptools was not told
    return "lenient" if _refused(theirs, peer) else "facts"


def differences_of(item: Input) -> list[Difference]:
    """Return how ours differs on ``item`` from h11, and from httptools where that can read it."""
    ours = run_events(wire, item)
    found = [compare("h11", item, ours, run_events(h11, item))]
    if item.method in (None, b"GET"):  # httptools has no way to say that the request was a HEAD or CONNECT
        found.append(compare("httptools", item, ours, run_httptools(item)))
    return [difference for difference in found if difference is not None]


@dataclasses.dataclass(slots=True)
class Checked:
    """What one input showed.

    Attributes:
      known: each difference with the row that explains it.
      faults: what must not be, in words with the input; each fails the test.
    """

    known: list[tuple[Difference, Row]]
    faults: list[str]


def check(item: Input, rng: random.Random) -> Checked:
    """Hold ours to three promises on one input: nothing but `RemoteProtocolError` is raised, the verdict does
    not depend on how the bytes were split, and every difference from the other parsers is in the table."""
    checked = Checked([], [])
    try:
        whole = run_events(wire, item)
        pieces = splits(rng, item.data)
        parts = run_events(wire, item, pieces)
    except Exception as error:  # noqa: BLE001 - whatever it is, it is the finding
        checked.faults.append(f"TOTALITY {item!r}: {type(error).__name__}: {error}")
        return checked
    if _comparable(whole) != _comparable(parts):
        checked.faults.append(f"SPLITS {item!r} in {pieces!r}:\n    whole: {whole}\n    split: {parts}")
    for difference in differences_of(item):
        rows = explanations(difference)
        if rows:
            checked.known.append((difference, rows[0]))
        else:
            text = f"\n    ours: {difference.ours}\n    {difference.peer}: {difference.theirs}"
            checked.faults.append(f"UNEXPLAINED {difference.kind} {difference.peer} {item!r}:{text}")
    return checked


def _comparable(outcome: Outcome) -> tuple[Any, ...]:
    error = outcome.error
    judged = getattr(error, "error_status_hint", None), getattr(error, "section", None)
    return outcome.verdict, judged, [message.facts() for message in outcome.messages]
