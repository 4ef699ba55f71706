"""A script that is bound to a connection, and played there."""

from __future__ import annotations

from typing import Self

import trio

from ._conversation import Conversation, ScriptFailed
from ._script import Script, Step, Steps, perform
from ._streams import MemoryStream, memory_pair


class ScriptedPeer(Steps):
    """A peer that plays a script written beforehand, over a stream in memory or any other.

    It has all steps of `Script`; each adds one and returns the peer, so that a script reads from top to
    bottom::

        peer = ScriptedPeer().expect_until(b"\\r\\n\\r\\n", startswith=b"GET / ")
        peer.send(b"HTTP/1.1 204 No Content\\r\\n\\r\\n").expect_end()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(peer.play)
            ...                             # the code under test, with peer.stream

    When the script is over, the connection stays as the script left it: open, unless it says otherwise.

    Args:
      streams: the peer's end and the end for the code under test; None: a new `memory_pair`.
      over: the peer's end, when the other one is elsewhere: a `trio.SocketStream`, a `trio.SSLStream`, or any
        other stream. One that is none of these and has no method ``reset`` cannot be reset: it is closed by
        force instead.
      script: where the script begins.

    Raises:
      TypeError: both ``streams`` and ``over`` are given.
    """

    def __init__(
        self,
        streams: tuple[MemoryStream, MemoryStream] | None = None,
        *,
        over: trio.abc.Stream | None = None,
        script: Script | None = None,
    ) -> None:
        self._stream: MemoryStream | None = None
        if over is None:
            over, self._stream = streams or memory_pair()
        elif streams is not None:
            raise TypeError("either streams or over may be given, not both")
        self._talk = Conversation(over)
        self._steps: list[Step] = [] if script is None else list(script.steps)
        self._played = 0
        self._playing = False

    def __repr__(self) -> str:
        return f"<{type(self).__name__}, {self._played} of {len(self._steps)} steps played>"

    @property
    def stream(self) -> MemoryStream:
        """The other end, for the code under test.

        Raises:
          ValueError: this peer was given its own end alone.
        """
        if self._stream is None:
            raise ValueError("this peer was given its own end of the connection only; it knows no other")
        return self._stream

    @property
    def received(self) -> bytearray:
        """Everything that the peer has received so far."""
        return self._talk.received

    @property
    def finished(self) -> bool:
        """Every step of the script was played."""
        return self._played == len(self._steps)

    @property
    def next_step(self) -> str:
        """Where the script is, as errors say it: ``"step 2 of 3, expect(b'x')"``; empty when it is over."""
        return "" if self.finished else self._place()

    @property
    def _own(self) -> trio.abc.Stream:
        return self._talk.stream

    def _add(self, *steps: Step) -> Self:
        self._steps.extend(steps)
        return self

    # -------------------------------------------------------------------------------------------- the playing

    async def play(self) -> None:
        """Play the steps that have not been played yet, to the end of the script.

        Raises:
          ScriptFailed: the code under test has not done what the script expects; the text names the step and
            has the expected and the received bytes. The connection is reset, so that the other side goes on.
          TypeError: the stream cannot do what the script says, such as a half-close under TLS.
          Exception: of a function that the script calls. The connection is reset.
          trio.BusyResourceError: another task plays this peer already.

        Cancellation: the connection is reset; the script cannot go on.
        """
        if self._playing:
            raise trio.BusyResourceError("another task is playing this script")
        self._playing = True
        try:
            if self.finished:
                await trio.lowlevel.checkpoint()
            while not self.finished:
                await perform(self._steps[self._played], self._talk, self._place())
                self._played += 1
        except BaseException as exc:
            if not self._talk.break_off():
                await trio.aclose_forcefully(self._own)
            if isinstance(exc, ScriptFailed):
                # What led here inside the script is of no use to who reads it.
                raise exc.with_traceback(None) from exc.__cause__  # noqa: ASYNC104  # of no cancel
            raise
        finally:
            self._playing = False

    def _place(self) -> str:
        return f"step {self._played + 1} of {len(self._steps)}, {self._steps[self._played].name}"
