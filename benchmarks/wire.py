"""The wire layer beside h11 and httptools in one run: microseconds an exchange, a piece and a chunk.

Cases, each of them without any I/O:

- *server, small / browser / POST*: receive a request's bytes, take its facts and its body, write an answer of
  two fields and 13 bytes, go on to the next cycle of the same connection. `_traffic` makes the requests; no
  two of the 1,024 that are used in turn are alike.
- *client*: write a GET, receive a 200 with 6 fields and 13 bytes, next cycle.
- *64 KiB pieces*: receive a body with Content-Length 64 MiB in pieces of 64 KiB.
- *tiny chunks*: receive chunks of 16 bytes, 64 KiB at a time. Through the h11 face each chunk is an event;
  the message face may coalesce them, and its figure is still a chunk's.

What makes it fair: every contender has to end up with the same facts (method, target, version, a list of
fields with lower-case names, the body) and with an equal answer, which is checked for all messages before the
clock runs; the last field is read inside the timed part, so that a parser that builds its list late must
build it; nothing is shared between cycles but the connection. httptools only parses: Python callbacks collect
the facts, as a server on it has them, and the answer is a join of bytes without any check. The garbage
collector stays on.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from typing import Any

import _harness as harness
import _traffic as traffic
from _kits import FACE, H11, HEADS, HTTPTOOLS, MESSAGE, Exchange, Kit, Receive, kits

PIECE = 65536
CHUNK = 16

# What the project set out to reach, as a multiple of h11's speed: 6 and 5 by the h11 face; by the message
# face 9 and 15 microseconds where h11 takes 80 and 110.
TARGETS = {
    ("server, small", FACE): 6.0,
    ("server, browser", FACE): 6.0,
    ("server, browser session", FACE): 6.0,
    ("tiny chunks", FACE): 5.0,
    ("server, small", MESSAGE): 80 / 9,
    ("server, browser", MESSAGE): 110 / 15,
    ("server, browser session", MESSAGE): 110 / 15,
}


def as_bytes(value: Any) -> bytes:
    """Bring a fact to bytes: httptools has a version as str, and every library a status code as int."""
    if isinstance(value, str):
        return value.encode()
    return b"%d" % value if isinstance(value, int) else bytes(value)


def prove(exchange: Exchange, messages: Sequence[traffic.Message], *, writes_request: bool) -> None:
    """Hold one contender to the facts of every message, and to what it writes.

    Raises:
      ValueError: it found other facts, or wrote another message than it should.
    """
    for message, request in zip(messages, traffic.many(traffic.client_request, len(messages)), strict=True):
        (first, second, version, fields, body), written = exchange(message)
        facts = as_bytes(first), as_bytes(second), as_bytes(version), list(fields), as_bytes(body)
        if facts != message.facts:
            raise ValueError(f"found {facts}, not {message.facts}")
        expected = plainly(request.data) if writes_request else ANSWER
        if plainly(written) != expected:
            raise ValueError(f"wrote {written!r}")


def plainly(data: bytes) -> tuple[bytes, traffic.Fields, bytes]:
    """Take apart a well-formed message: its first line, its fields sorted with lower-case names, its body."""
    head, _, body = data.partition(b"\r\n\r\n")
    first, *field_lines = head.split(b"\r\n")
    pairs = (line.partition(b": ") for line in field_lines)
    return first, sorted((name.lower(), value) for name, _, value in pairs), body


ANSWER = plainly(
    b"HTTP/1.1 200 OK\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n%s"
    % (traffic.ANSWER_TYPE, len(traffic.ANSWER_BODY), traffic.ANSWER_BODY)
)


def exchanges(exchange: Exchange, messages: Sequence[traffic.Message]) -> harness.Prepare:
    """Return what `harness.stopwatch` wants: jobs of whole exchanges, going round through all messages."""
    endless = cycle(messages)

    def prepare(units: int) -> tuple[Callable[[], None], int]:
        batch = list(islice(endless, units))

        def job() -> None:
            for message in batch:
                exchange(message)

        return job, units

    return prepare


def bodies(receive: Receive, head: bytes, pieces: Sequence[bytes], units_in_body: int) -> harness.Prepare:
    """Return what `harness.stopwatch` wants: jobs of whole bodies, at least one."""

    def prepare(units: int) -> tuple[Callable[[], None], int]:
        repeats = max(1, round(units / units_in_body))

        def job() -> None:
            for _ in range(repeats):
                receive(head, pieces)

        return job, repeats * units_in_body

    return prepare


@dataclass(frozen=True, slots=True)
class Case:
    """A case: its name, its unit, the content bytes of a unit (0: not counted), how a kit runs it."""

    name: str
    unit: str
    content: int
    start: Callable[[Kit], harness.Prepare]


def cases(*, quick: bool) -> list[Case]:
    """Return all cases; `quick` shortens the long bodies."""

    def exchange_case(name: str, maker: Callable[[int], traffic.Message], role: str) -> Case:
        messages = traffic.many(maker, HEADS)

        def start(kit: Kit) -> harness.Prepare:
            exchange: Exchange = getattr(kit, role)()
            prove(exchange, messages, writes_request=role == "client")
            # Proving took the requests that a client writes once round, so they are in step with the messages
            # again.
            return exchanges(exchange, messages)

        return Case(name, "exchange", 0, start)

    def body_case(
        name: str, unit: str, size: int, count: int, framing: tuple[bytes, bytes], body: bytes
    ) -> Case:
        head = traffic.upload_head(framing)
        whole = memoryview(body)
        pieces = [bytes(whole[start : start + PIECE]) for start in range(0, len(body), PIECE)]
        if not body:
            pieces = [bytes(size)] * count

        def start(kit: Kit) -> harness.Prepare:
            length = kit.receive(head, pieces)
            if length != size * count:
                raise ValueError(f"received {length} bytes of content, not {size * count}")
            return bodies(kit.receive, head, pieces, count)

        return Case(name, unit, size, start)

    pieces, chunks = (256, 4096) if quick else (1024, 16384)
    length = (b"Content-Length", b"%d" % (pieces * PIECE))
    chunked = (b"Transfer-Encoding", b"chunked")
    return [
        exchange_case("server, small", traffic.small_request, "server"),
        exchange_case("server, browser", traffic.browser_request, "server"),
        exchange_case("server, browser session", traffic.session_request, "server"),
        exchange_case("server, POST", traffic.post_request, "server"),
        exchange_case("client", traffic.response, "client"),
        body_case("64 KiB pieces", "piece", PIECE, pieces, length, b""),
        body_case("tiny chunks", "chunk", CHUNK, chunks, chunked, traffic.tiny_chunks(chunks)),
    ]


def run(case: Case, *, rounds: int, seconds: float) -> dict[str, harness.Result]:
    """Run one case for all contenders and return their results in the order of the table."""
    results = {name: harness.Result(name) for name in kits()}
    samplers = {}
    for name, make in kits().items():
        harness.progress(f"{case.name}: {name}")
        try:
            samplers[name] = harness.stopwatch(case.start(make()), seconds)
        except Exception as exc:  # noqa: BLE001 - a failure is a row of the table, not the run's end
            results[name].note = harness.describe(exc)
    harness.interleave(samplers, rounds, results, label=case.name)
    return results


def report(case: Case, results: dict[str, harness.Result]) -> str:
    """Return the table of one case. Ratios say how many times as fast as h11 and as httptools."""
    columns = [f"µs/{case.unit}", "spread", "h11", "httptools", "target"]
    if case.content:
        columns.insert(1, "MB/s")

    def row(result: harness.Result) -> list[str]:
        speeds = [inverse(result.ratio(results[peer])) for peer in (H11, HTTPTOOLS)]
        goal = TARGETS.get((case.name, result.name))
        verdict = ""
        if goal is not None and speeds[0] is not None:
            verdict = f"{goal:.2f}x {'met' if speeds[0] >= goal else 'MISSED'}"
        cells = [f"{result.median:.2f}", f"±{result.spread:.0f}%", *map(harness.times, speeds), verdict]
        if case.content:
            cells.insert(
                1, f"{case.content / result.median:.0f}"
            )  # bytes a microsecond are megabytes a second
        return cells

    return harness.table(case.name, columns, results, row)


def inverse(ratio: float | None) -> float | None:
    """Turn a ratio of times into a ratio of speeds."""
    return None if ratio is None else 1 / ratio


def main() -> int:
    parser = harness.arguments(__doc__, rounds=15)
    options = parser.parse_args()
    rounds, seconds = (min(options.rounds, 3), 0.02) if options.quick else (options.rounds, 0.1)
    print(harness.versions("h11", "httptools", "trio-http"))
    print(f"{rounds} rounds of {seconds * 1e3:.0f} ms; higher ratios are faster\n")
    failed = False
    for case in cases(quick=options.quick):
        if harness.chosen(options.only, case.name):
            results = run(case, rounds=rounds, seconds=seconds)
            failed |= any(result.failed for result in results.values())
            print(report(case, results), flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
