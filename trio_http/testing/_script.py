"""What a scripted peer does, step by step: what it expects, what it says, when it waits, and how it goes.

A script knows no HTTP. So a test shows the very bytes of an exchange, also those that no proper peer would
send. Nor does it know which side it plays, or over what: `ScriptedPeer` and `open_scripted_server` bring the
stream.
"""

from __future__ import annotations

import abc
import inspect
from collections.abc import Awaitable, Callable
from typing import Self

import attrs
import trio

from ._arguments import check_bytes, check_function, check_int
from ._conversation import Conversation, ScriptFailed, check_seconds

_END = "the end of the stream"


@attrs.frozen
class Step:
    """One line of a script.

    Attributes:
      name: what an error calls it.
      run: does it.
      foreign: it runs a function of the user's, whose errors say nothing about the other side.
    """

    name: str
    run: Callable[[Conversation], Awaitable[None]]
    foreign: bool = False


class Steps(abc.ABC):
    """The steps there are: each method adds one, and returns what it was added to."""

    @abc.abstractmethod
    def _add(self, *steps: Step) -> Self:
        """Add steps at the end."""

    # ------------------------------------------------------------------------------------------- receiving

    def expect(self, data: bytes) -> Self:
        """Receive exactly ``data``, in however many parts; fail at the first byte that differs."""
        check_bytes("data", data)

        async def run(talk: Conversation) -> None:
            while not talk.rest().startswith(data):
                got = talk.rest()
                if not data.startswith(got):
                    raise ScriptFailed(_difference(expected=data, got=got[: len(data)]))
                if not await talk.receive():
                    raise _early_end(expected=data, got=got)
            talk.take(len(data))

        return self._add(Step(f"expect({_short(data)})", run))

    def expect_until(self, marker: bytes, *, startswith: bytes = b"", contains: bytes = b"") -> Self:
        """Receive up to and with the first ``marker``.

        Args:
          marker: not empty; ``b"\\r\\n\\r\\n"`` is the end of a head.
          startswith, contains: what has to stand at the beginning, and anywhere, of what was received.

        Raises:
          ValueError: ``marker`` is empty.
        """
        check_bytes("marker", marker)
        check_bytes("startswith", startswith)
        check_bytes("contains", contains)
        if not marker:
            raise ValueError("an empty marker marks nothing")

        async def run(talk: Conversation) -> None:
            while (end := talk.rest().find(marker)) < 0:
                if not await talk.receive():
                    raise _early_end(expected=marker, got=talk.rest())
            got = talk.rest()[: end + len(marker)]
            _look_at(got, startswith, contains)
            talk.take(len(got))

        return self._add(Step(f"expect_until({_short(marker)})", run))

    def expect_until_end(self, *, startswith: bytes = b"", contains: bytes = b"") -> Self:
        """Receive whatever comes, up to the end of the stream.

        Args:
          startswith, contains: what has to stand at the beginning, and anywhere, of it.
        """
        check_bytes("startswith", startswith)
        check_bytes("contains", contains)

        async def run(talk: Conversation) -> None:
            while await talk.receive():
                pass
            got = talk.rest()
            _look_at(got, startswith, contains)
            talk.take(len(got))

        return self._add(Step("expect_until_end()", run))

    def expect_end(self) -> Self:
        """Receive the end of the stream, and nothing before it. Under TLS it has to be announced."""

        async def run(talk: Conversation) -> None:
            if talk.rest() or await talk.receive():
                raise ScriptFailed(f"  expected: {_END}\n  got:      {talk.rest()!r}")

        return self._add(Step("expect_end()", run))

    def expect_broken(self) -> Self:
        """Find the connection broken, and nothing before that: the other side must have reset it.

        Over TLS an end that was not announced is one, too.
        """

        async def run(talk: Conversation) -> None:
            try:
                got = talk.rest() or await talk.receive()
            except trio.BrokenResourceError:
                return
            raise ScriptFailed(
                f"  expected: a broken connection\n  got:      {repr(got) if got else _END}", gone=not got
            )

        return self._add(Step("expect_broken()", run))

    def expect_end_or_broken(self) -> Self:
        """Find that the other side is gone, however it went, and receive nothing before that."""

        async def run(talk: Conversation) -> None:
            try:
                got = talk.rest() or await talk.receive()
            except trio.BrokenResourceError:
                return
            if got:
                raise ScriptFailed(f"  expected: {_END}, or a broken connection\n  got:      {got!r}")

        return self._add(Step("expect_end_or_broken()", run))

    def expect_nothing(self, seconds: float) -> Self:
        """Receive nothing, not even the end, for ``seconds`` on trio's clock."""
        check_seconds(seconds)

        async def run(talk: Conversation) -> None:
            got = talk.rest()
            with trio.move_on_after(seconds):
                got = got or await talk.receive()
                raise ScriptFailed(
                    f"  expected: nothing for {seconds} s\n  got:      {repr(got) if got else _END}",
                    gone=not got,
                )

        return self._add(Step(f"expect_nothing({seconds})", run))

    # --------------------------------------------------------------------------------------------- sending

    def send(self, data: bytes) -> Self:
        """Send ``data`` at once."""
        check_bytes("data", data)

        async def run(talk: Conversation) -> None:
            await talk.stream.send_all(data)

        return self._add(Step(f"send({_short(data)})", run))

    def send_bytewise(self, data: bytes) -> Self:
        """Send ``data`` one byte at a time.

        In memory, the other side has received each before the next is sent. Over a TCP socket each goes in a
        segment of its own: the next one is sent when it has left the kernel, and all tasks of this program
        have been waiting for a millisecond of real time; a program elsewhere may still receive two at once,
        for which `send_slowly` is the cure. (What has left the kernel is known on Linux only.)
        """
        check_bytes("data", data)

        async def run(talk: Conversation) -> None:
            await trio.lowlevel.checkpoint()
            for at in range(len(data)):
                await talk.send_apart(data[at : at + 1])

        return self._add(Step(f"send_bytewise({_short(data)})", run))

    def send_slowly(self, data: bytes, *, each: int, seconds: float) -> Self:
        """Send ``data`` in pieces of ``each`` bytes, with ``seconds`` on trio's clock between two.

        Raises:
          ValueError: ``each`` is less than 1, or ``seconds`` is negative or endless.
        """
        check_bytes("data", data)
        if each < 1:
            raise ValueError(f"each must be at least 1, got {each}")
        check_seconds(seconds)

        async def run(talk: Conversation) -> None:
            await trio.lowlevel.checkpoint()
            for at in range(0, len(data), each):
                if at:
                    await trio.sleep(seconds)
                await talk.stream.send_all(data[at : at + each])

        return self._add(Step(f"send_slowly({_short(data)}, each={each}, seconds={seconds})", run))

    # --------------------------------------------------------------------------------------------- waiting

    def wait(self, seconds: float) -> Self:
        """Do nothing for ``seconds`` on trio's clock."""
        check_seconds(seconds)

        async def run(talk: Conversation) -> None:
            await trio.sleep(seconds)

        return self._add(Step(f"wait({seconds})", run))

    def wait_until_quiet(self, cushion: float | None = None) -> Self:
        """Wait until every other task waits, too: the other side has done all that it can do by now.

        Over sockets there is a doubt in it, for bytes may be on their way through the kernel while every
        task waits: so it has to stay quiet for a while. What another process does is not seen at all. And an
        autojump clock does not wait for the kernel either; over sockets, use the real one.

        Args:
          cushion: for how many seconds of real time; None: 0 in memory, and 0.01 over sockets.
        """
        if cushion is not None:
            check_seconds(cushion, "cushion")

        async def run(talk: Conversation) -> None:
            await talk.wait_until_quiet(cushion)

        return self._add(Step(f"wait_until_quiet({'' if cushion is None else cushion})", run))

    def call(self, function: Callable[[], object]) -> Self:
        """Call a function, and await what it returns if that is awaitable.

        ``call(event.set)`` tells a test how far the script is, and ``call(event.wait)`` waits for the test.
        What the function raises ends the play, and comes out of it as it is.
        """
        check_function("what a script calls", function, ())

        async def run(talk: Conversation) -> None:
            await trio.lowlevel.checkpoint()
            result = function()
            if inspect.isawaitable(result):
                await result

        name = getattr(function, "__qualname__", repr(function))
        return self._add(Step(f"call({name})", run, foreign=True))

    # ---------------------------------------------------------------------------------------------- ending

    def send_eof(self) -> Self:
        """Send nothing more, and go on receiving (FIN). TLS cannot do that: `TypeError` when it is played."""
        return self._add(Step("send_eof()", Conversation.send_eof))

    def close(self) -> Self:
        """Close both directions; what was sent still arrives.

        Over TLS the end is announced by an alert. Over TCP the peer's unread bytes turn the end into a reset.
        """
        return self._add(Step("close()", Conversation.close))

    def cut(self) -> Self:
        """Close without the alert by which TLS announces the end, as a truncation attack does. Without TLS:
        as `close`.
        """
        return self._add(Step("cut()", Conversation.cut))

    def reset(self) -> Self:
        """Break the connection: the other side sees `trio.BrokenResourceError` (RST).

        What was sent and not received yet is lost. A Unix socket knows no reset, and is closed.
        """

        async def run(talk: Conversation) -> None:
            await trio.lowlevel.checkpoint()
            await talk.reset()

        return self._add(Step("reset()", run))

    # ------------------------------------------------------------------------------------------- composing

    def then(self, script: Script) -> Self:
        """Go on with the steps of another script."""
        check_script(script)
        return self._add(*script.steps)

    def repeat(self, script: Script, times: int | None = None) -> Self:
        """Play another script over and over, as one step.

        Args:
          times: how often, at least 1. None: until the other side ends the stream, or breaks it, where a new
            turn would begin; this is what a server does that keeps its connections.

        Raises:
          ValueError: ``times`` is less than 1, or ``script`` has no steps.
        """
        check_script(script)
        if times is not None:
            check_int("times", times, 1)
        if not script.steps:
            raise ValueError("a script without steps cannot be repeated")

        async def run(talk: Conversation) -> None:
            turn = 0
            while turn != times:
                turn += 1
                if times is None and not talk.rest() and await _is_over(talk):
                    return
                for number, step in enumerate(script.steps, start=1):
                    place = f"turn {turn}, step {number} of {len(script.steps)}, {step.name}"
                    await perform(step, talk, place)

        often = "until the end" if times is None else f"{times} times"
        # Foreign: what a step inside makes of a broken connection is said already.
        return self._add(Step(f"repeat({len(script.steps)} steps, {often})", run, foreign=True))


@attrs.frozen(repr=False)
class Script(Steps):
    """A script that is not bound to a connection. It never changes: each method returns a longer one.

    So it may be written once, shared, extended, and played by either side, any number of times, over memory
    and over sockets::

        ANSWER = Script().expect_until(b"\\r\\n\\r\\n").send(b"HTTP/1.1 204 No Content\\r\\n\\r\\n")
        TWICE_AND_GONE = ANSWER.then(ANSWER).reset()

    Attributes:
      steps: what it does, in order.
    """

    steps: tuple[Step, ...] = ()

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {'; '.join(step.name for step in self.steps) or 'nothing'}>"

    def _add(self, *steps: Step) -> Self:
        return attrs.evolve(self, steps=(*self.steps, *steps))


def check_script(script: object) -> None:
    """Refuse what is no script.

    Raises:
      TypeError: it is none.
    """
    if not isinstance(script, Script):
        raise TypeError(f"expected a Script, such as Script().send(b'...'), got {script!r}")


async def perform(step: Step, talk: Conversation, place: str) -> None:
    """Do one step.

    Raises:
      ScriptFailed: the other side has not done what the step expects, or is gone; the text begins with
        ``place``.
      Exception: of a function that the step calls; a note says at which place.
    """
    try:
        await step.run(talk)
    except ScriptFailed as exc:
        raise ScriptFailed(f"{place}:\n{exc}", gone=exc.gone) from exc.__cause__
    except (trio.BrokenResourceError, trio.ClosedResourceError) as exc:
        if step.foreign:
            exc.add_note(f"while a script was at {place}")
            raise
        why = str(exc) or str(exc.__cause__ or type(exc).__name__)  # under TLS the text is the cause's
        text = f"{place}: {why}\n  received before: {bytes(talk.received)!r}"
        raise ScriptFailed(text, gone=True) from exc
    except Exception as exc:
        exc.add_note(f"while a script was at {place}")
        raise


async def _is_over(talk: Conversation) -> bool:
    """Wait for more; tell whether there is none."""
    try:
        return not await talk.receive()
    except trio.BrokenResourceError:
        return True


def _look_at(got: bytes, startswith: bytes, contains: bytes) -> None:
    """See what a part that was received has to have."""
    if not got.startswith(startswith):
        raise ScriptFailed(_difference(expected=startswith, got=got))
    if contains not in got:
        raise ScriptFailed(_difference(expected=contains, got=got))


def _early_end(*, expected: bytes, got: bytes) -> ScriptFailed:
    """Return the failure of a side that has ended the stream too early."""
    return ScriptFailed(_difference(expected=expected, got=got) + f"\n  then: {_END}", gone=True)


def _difference(*, expected: bytes, got: bytes) -> str:
    """Return both byte strings, one under the other."""
    return f"  expected: {expected!r}\n  got:      {got!r}"


def _short(data: bytes) -> str:
    return repr(data if len(data) <= 40 else data[:37] + b"...")
