"""Who has something to read, and who has gone: one edge-triggered epoll for many sockets (Linux).

Theory of operation
===================

Trio's `wait_readable` arms the socket in the kernel at each wait, which is a system call, and says nothing of
a socket on which nobody waits. A server pays for the first on every request, and needs the second to cancel a
handler whose client is gone. Here a socket is registered once, for its life, edge-triggered; the epoll itself
is a descriptor, and `EdgePoll.run` waits for it as for any other. Waiting for a socket is then only to be
parked in it, without a system call.

*Edges.* An edge is reported when something new comes, be it bytes, the end or an error, and not again while
it lies unread (epoll(7)). Hence the one rule: **a receiver may only be parked when nothing unread can lie in
the kernel.** What breaks the rule sets `_ready`: an edge that met no parked receiver, and a `recv` that
filled its buffer. A shorter `recv` has emptied the kernel's buffer, so whatever comes later makes a new edge;
it clears `_ready`, and so does one that found nothing. An edge of bytes that were read already costs one
`recv` for nothing. After the peer's FIN or a reset `_ready` stays, for then `recv` always has an answer.

Two things end a `recv` early although more lies there. A byte of TCP's urgent data is one: its edge
(`EPOLLPRI`) sends the socket back to Trio's way of waiting, for good. The other is a Unix peer that passes
descriptors along with its bytes: what it sent behind them is found with whatever it sends next, or at its
end.

*Descriptors.* A number is taken out before it is closed or given away, and a batch of events is turned into
sockets before anything is called that could close one. So an event never reaches the successor of the socket
that it was meant for.

*Hang-ups* are told by a call, from the task of `EdgePoll.run`, and only after `poll` has confirmed them.
"""

from __future__ import annotations

import contextlib
import enum
import logging
import select
from collections.abc import Callable
from typing import ClassVar, Final, Protocol

import trio
from trio.lowlevel import notify_closing, reschedule, wait_readable

_LOGGER: Final = logging.getLogger("trio_http.transport")

_IN: Final[int] = getattr(select, "EPOLLIN", 0)
_URGENT: Final[int] = getattr(select, "EPOLLPRI", 0)
_GONE: Final[int] = (
    getattr(select, "EPOLLRDHUP", 0) | getattr(select, "EPOLLHUP", 0) | getattr(select, "EPOLLERR", 0)
)
_EVENTS: Final[int] = _IN | _URGENT | getattr(select, "EPOLLRDHUP", 0) | getattr(select, "EPOLLET", 0)

#: How many events one look takes. The rest is found by the next, after the tasks that were woken have run.
_BATCH: Final = 512


class Hangup(enum.Enum):
    """What is known of the peer's going away.

    `NONE`: nothing. `FIN`: the peer sends nothing more, and may still read. `RESET`: both directions are
    over: the peer has reset the connection, the network has given it up, a Unix peer has closed, or a FIN
    came after we had ended our own direction.
    """

    NONE = "none"
    FIN = "fin"
    RESET = "reset"


class Watched(Protocol):
    """What an `EdgePoll` sees of a transport.

    Attributes:
      hangup: what was confirmed so far.
      _fd: the descriptor.
      _reader: the task that is parked; it is woken at most once, by who takes it out of here.
      _ready: a `recv` may find something, so nobody may be parked.
      _parks: receivers are parked here; else they wait by Trio's means.
      _poll: where the transport is registered, or None.
      _on_hangup: whom to tell.
    """

    hangup: Hangup
    _fd: int
    _reader: trio.lowlevel.Task | None
    _ready: bool
    _parks: bool
    _poll: EdgePoll | None
    _on_hangup: Callable[[bool], None] | None


class EdgePoll:
    """An edge-triggered epoll that wakes the receivers of the transports attached to it.

    `len()` is the number of transports attached. Transports are held until they are closed or detached.

    Attributes:
      is_available: whether this system has what it takes (Linux). Where it has not, none can be made.

    Raises:
      NotImplementedError: `is_available` is False.
      OSError: no descriptor left.
    """

    __slots__ = ("_epoll", "_fd", "_transports")

    is_available: ClassVar[bool] = hasattr(select, "epoll") and hasattr(select, "EPOLLRDHUP")

    def __init__(self) -> None:
        if not self.is_available:
            raise NotImplementedError("this system has no epoll that reports half-closed sockets")
        self._epoll = select.epoll()
        self._fd: int = self._epoll.fileno()
        self._transports: dict[int, Watched] = {}

    def __len__(self) -> int:
        return len(self._transports)

    def __repr__(self) -> str:
        state = "closed" if self._epoll.closed else f"{len(self)} attached"
        return f"<{type(self).__name__}, {state}>"

    async def run(self) -> None:
        """Wake receivers and report hang-ups, until `close`. One task at a time may be in here.

        While nobody is, attached transports just wait: what happens to them shows when it runs again.

        Raises:
          trio.BusyResourceError: another task is in here.

        Cancellation: nothing is lost; call again and continue.
        """
        while not self._epoll.closed:
            try:
                await wait_readable(self._fd)
            except trio.ClosedResourceError:
                return
            self._look()

    def _look(self) -> None:
        """Wake and report, as far as there is something to report now."""
        if self._epoll.closed:
            return  # By a task that ran after `run` had been woken.
        find = self._transports.get
        gone: list[Watched] | None = None
        # No call of others' code in this loop: numbers keep their meaning.
        for fd, events in self._epoll.poll(0, _BATCH):
            transport = find(fd)
            if transport is None:
                continue
            task = transport._reader
            if task is None:
                transport._ready = True
            else:
                transport._reader = None
                reschedule(task)
            if events != _IN:
                if events & _URGENT:
                    transport._parks = False
                if events & _GONE:
                    transport._ready = True
                    gone = gone or []
                    gone.append(transport)
        if gone is not None:
            for transport in gone:
                self._confirm(transport)

    def close(self) -> None:
        """Close the epoll. Idempotent. Transports that are attached go back to waiting by Trio's means."""
        if self._epoll.closed:
            return
        for transport in self._transports.values():
            transport._poll = None
            transport._parks = False
            if transport._reader is not None:
                # It finds nothing, most likely, and waits again, now elsewhere.
                task, transport._reader = transport._reader, None
                reschedule(task)
        self._transports.clear()
        notify_closing(self._fd)
        self._epoll.close()

    def _add(self, fd: int, transport: Watched) -> bool:
        """Register `fd`, which is `transport`'s; False when the kernel refuses."""
        try:
            self._epoll.register(fd, _EVENTS)
        except (OSError, ValueError):
            return False  # No memory, no watch left for this user (epoll(7)), or we are closed.
        self._transports[fd] = transport
        return True

    def _remove(self, fd: int) -> None:
        """Take `fd` out. It must still be open."""
        del self._transports[fd]
        with contextlib.suppress(OSError):
            self._epoll.unregister(fd)

    def _confirm(self, transport: Watched) -> None:
        """Look how the peer of `transport` has gone, note it, and tell who wants to know."""
        if transport._poll is not self:
            return  # Closed meanwhile, by a callback of another one's.
        look = select.poll()
        look.register(transport._fd, select.POLLRDHUP)
        for _, events in look.poll(0):
            reset = bool(events & (select.POLLHUP | select.POLLERR))
            known = transport.hangup
            if known is Hangup.RESET or (known is Hangup.FIN and not reset):
                return
            transport.hangup = Hangup.RESET if reset else Hangup.FIN
            if transport._on_hangup is not None:
                try:
                    transport._on_hangup(reset)
                except Exception:
                    _LOGGER.exception("a callback for hang-ups failed")
