"""A peer that follows a script: what it expects, what it says, when it waits, and how it goes.

It knows no HTTP. So a test shows the very bytes of an exchange, also those that no proper peer would send.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import attrs
import trio
import trio.testing

from ._streams import MemoryStream, memory_pair

_END = "the end of the stream"


@attrs.frozen
class _Step:
    """One line of the script: what an error calls it, and what it does."""

    name: str
    run: Callable[[], Awaitable[None]]


class ScriptedPeer:
    """A peer over a stream in memory that plays a script written beforehand.

    Each method but `play` adds a step and returns the peer, so that a script reads from top to bottom::

        peer = ScriptedPeer().expect_until(b"\\r\\n\\r\\n", startswith=b"GET / ")
        peer.send(b"HTTP/1.1 204 No Content\\r\\n\\r\\n").expect_end()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(peer.play)
            ...                             # the code under test, with peer.stream

    When the script is over, the connection stays as the script left it: open, unless it says otherwise.

    Args:
      streams: the peer's end and the end for the code under test; None: a new `memory_pair`.

    Attributes:
      stream: the other end, for the code under test.
      received: everything that the peer has received so far.
    """

    def __init__(self, streams: tuple[MemoryStream, MemoryStream] | None = None) -> None:
        self._own, self.stream = streams or memory_pair()
        self._steps: list[_Step] = []
        self._played = 0
        self._taken = 0
        self.received = bytearray()

    def __repr__(self) -> str:
        return f"<{type(self).__name__}, {self._played} of {len(self._steps)} steps played>"

    @property
    def finished(self) -> bool:
        """Every step of the script was played."""
        return self._played == len(self._steps)

    # --------------------------------------------------------------------------------------------- the script

    def expect(self, data: bytes) -> ScriptedPeer:
        """Receive exactly ``data``, in however many parts; fail at the first byte that differs."""

        async def step() -> None:
            while not self._rest().startswith(data):
                got = self._rest()
                if not data.startswith(got):
                    raise AssertionError(_difference(expected=data, got=got[: len(data)]))
                if not await self._receive():
                    raise AssertionError(_difference(expected=data, got=got) + f"\n  then: {_END}")
            self._taken += len(data)

        return self._add(f"expect({_short(data)})", step)

    def expect_until(self, marker: bytes, *, startswith: bytes = b"", contains: bytes = b"") -> ScriptedPeer:
        """Receive up to and with the first ``marker``.

        Args:
          marker: not empty; ``b"\\r\\n\\r\\n"`` is the end of a head.
          startswith, contains: what has to stand at the beginning, and anywhere, of what was received.
        """
        if not marker:
            raise ValueError("an empty marker marks nothing")

        async def step() -> None:
            while (end := self._rest().find(marker)) < 0:
                if not await self._receive():
                    got = self._rest()
                    raise AssertionError(_difference(expected=marker, got=got) + f"\n  then: {_END}")
            got = self._rest()[: end + len(marker)]
            if not got.startswith(startswith):
                raise AssertionError(_difference(expected=startswith, got=got))
            if contains not in got:
                raise AssertionError(_difference(expected=contains, got=got))
            self._taken += len(got)

        return self._add(f"expect_until({_short(marker)})", step)

    def expect_end(self) -> ScriptedPeer:
        """Receive the end of the stream, and nothing before it."""

        async def step() -> None:
            if self._rest() or await self._receive():
                raise AssertionError(f"  expected: {_END}\n  got:      {self._rest()!r}")

        return self._add("expect_end()", step)

    def expect_broken(self) -> ScriptedPeer:
        """Find the connection broken, and nothing before that: the other side must have reset it."""

        async def step() -> None:
            try:
                got = self._rest() or await self._receive()
            except trio.BrokenResourceError:
                return
            raise AssertionError(f"  expected: a broken connection\n  got:      {repr(got) if got else _END}")

        return self._add("expect_broken()", step)

    def expect_nothing(self, seconds: float) -> ScriptedPeer:
        """Receive nothing, not even the end, for ``seconds`` on trio's clock."""

        async def step() -> None:
            got = self._rest()
            with trio.move_on_after(seconds):
                got = got or await self._receive()
                raise AssertionError(
                    f"  expected: nothing for {seconds} s\n  got:      {repr(got) if got else _END}"
                )

        return self._add(f"expect_nothing({seconds})", step)

    def send(self, data: bytes) -> ScriptedPeer:
        """Send ``data`` at once."""

        async def step() -> None:
            await self._own.send_all(data)

        return self._add(f"send({_short(data)})", step)

    def send_bytewise(self, data: bytes) -> ScriptedPeer:
        """Send ``data`` one byte at a time; the other side has received each before the next is sent."""

        async def step() -> None:
            for at in range(len(data)):
                await self._own.send_all(data[at : at + 1])
                await trio.testing.wait_all_tasks_blocked()

        return self._add(f"send_bytewise({_short(data)})", step)

    def wait(self, seconds: float) -> ScriptedPeer:
        """Do nothing for ``seconds`` on trio's clock."""

        async def step() -> None:
            await trio.sleep(seconds)

        return self._add(f"wait({seconds})", step)

    def wait_until_quiet(self) -> ScriptedPeer:
        """Wait until every other task waits, too: the other side has done all that it can do by now."""
        return self._add("wait_until_quiet()", trio.testing.wait_all_tasks_blocked)

    def send_eof(self) -> ScriptedPeer:
        """Send nothing more, and go on receiving (FIN)."""
        return self._add("send_eof()", self._own.send_eof)

    def close(self) -> ScriptedPeer:
        """Close both directions; what was sent still arrives."""
        return self._add("close()", self._own.aclose)

    def reset(self) -> ScriptedPeer:
        """Break the connection: the other side sees `trio.BrokenResourceError` (RST)."""

        async def step() -> None:
            await trio.lowlevel.checkpoint()
            self._own.reset()

        return self._add("reset()", step)

    # -------------------------------------------------------------------------------------------- the playing

    async def play(self) -> None:
        """Play the steps that have not been played yet, to the end of the script.

        Raises:
          AssertionError: the code under test has not done what the script expects; the text names the step
            and has the expected and the received bytes. The connection is reset, so that the other side
            goes on.

        Cancellation: the connection is reset; the script cannot go on.
        """
        try:
            while self._played < len(self._steps):
                step = self._steps[self._played]
                try:
                    await step.run()
                except AssertionError as exc:
                    raise AssertionError(f"{self._place(step)}:\n{exc}") from None
                except (trio.BrokenResourceError, trio.ClosedResourceError) as exc:
                    raise AssertionError(f"{self._place(step)}: {exc}\n{self._history()}") from exc
                self._played += 1
        except BaseException:
            self._own.reset()
            raise

    def _add(self, name: str, run: Callable[[], Awaitable[None]]) -> ScriptedPeer:
        self._steps.append(_Step(name, run))
        return self

    def _place(self, step: _Step) -> str:
        return f"step {self._played + 1} of {len(self._steps)}, {step.name}"

    def _history(self) -> str:
        return f"  received before: {bytes(self.received)!r}"

    def _rest(self) -> bytes:
        """Return what was received and has not been expected yet."""
        return bytes(self.received[self._taken :])

    async def _receive(self) -> bytes:
        data = await self._own.receive_some()
        self.received += data
        return data


def _difference(*, expected: bytes, got: bytes) -> str:
    """Return both byte strings, one under the other."""
    return f"  expected: {expected!r}\n  got:      {got!r}"


def _short(data: bytes) -> str:
    return repr(data if len(data) <= 40 else data[:37] + b"...")
