"""Accepting: from a listener to connections, as many as there is room for.

Theory of operation
===================

An accept loop has three places to wait, and each is there for one reason: on the *gate*, when there are as
many connections as are allowed; on the *listener*, until somebody comes; on the *clock*, when the system is
short of descriptors or memory. Between them everything is synchronous: a connection is accepted, counted and
handed over without a checkpoint, so that no cancel, close or Ctrl-C can come when it belongs to nobody.

The loop waits first and accepts then, until nobody is left, which saves `trio.socket`'s three checkpoints per
connection. But a flood of connects must not starve those who are served, so a wake-up accepts at most
`_BURST`; then every other task that can run has its turn.

To accept, it looks at the listener's descriptor through a stdlib socket of its own. That view is never
closed, only let go: the descriptor has one owner, the listener. (A duplicate would keep the port open after
the listener's close, until this loop had its turn.) Invariant: the view is not used once the listener is
closed, because its number may be somebody else's by then; so the listener is asked after whatever could have
closed it, which is every wait and every hand-over.
"""

from __future__ import annotations

import errno
import logging
import math
import socket
from collections.abc import Callable
from typing import Any, Final, Literal, TypeAlias

import trio
from trio.lowlevel import wait_readable

from trio_http.transport import Address

logger = logging.getLogger("trio_http.server")

#: What is done with a connection beyond the limit: it stays in the kernel's backlog, or it is accepted to be
#: told so.
GatePolicy: TypeAlias = Literal["wait", "refuse"]

#: Takes over an accepted socket, or refuses it.
TakeSocket: TypeAlias = Callable[[socket.socket, Address], object]
TakeStream: TypeAlias = Callable[[trio.abc.Stream], object]

#: Connections accepted in one wake-up. One costs about 60 µs, with its transport and the start of its task;
#: nearly twice that if each has a wake-up of its own, and from 8 on no less (measured, on a busy machine). So
#: those who are served wait 1 ms longer at most in a flood.
_BURST: Final = 16

#: Between attempts while the system is short of something. Precedent: trio's `serve_listeners`, 0.1.
_BACK_OFF_SECONDS: Final = 0.1


def _numbers(names: str) -> frozenset[int]:
    """Return the error numbers of those names that this system has."""
    return frozenset(getattr(errno, name) for name in names.split() if hasattr(errno, name))


#: The process or the system has reached a limit; it may pass.
_SHORTAGES: Final = _numbers("EMFILE ENFILE ENOBUFS ENOMEM")

#: This one connection failed before it was accepted, and `accept` is who tells: Linux passes on whatever
#: network error is pending on it (accept(2), "Error handling"), and EPERM for a firewall's rule; the BSDs say
#: ECONNABORTED.
_FAILED_BEFORE: Final = _numbers(
    """
    ECONNABORTED ECONNRESET EHOSTDOWN EHOSTUNREACH ENETDOWN ENETUNREACH ENONET ENOPROTOOPT ENOSR EOPNOTSUPP
    EPERM EPROTO EPROTONOSUPPORT ESOCKTNOSUPPORT ETIMEDOUT
    """
)


class Gate:
    """The limit on connections, which all the listeners of a server share.

    Every operation takes constant time; only who waits is counted: at most one for each listener.

    Args:
      limit: connections open at a time, at least 1; `math.inf` for no limit.
      policy: what becomes of the excess. "wait" stops accepting, so that the kernel's backlog holds it;
        "refuse" accepts it and hands it to who refuses.

    Attributes:
      limit, policy: as given.
      open_count: how many have entered and not left.
    """

    __slots__ = ("_waiting", "limit", "open_count", "policy")

    def __init__(self, limit: float = math.inf, policy: GatePolicy = "wait") -> None:
        if not limit >= 1:
            raise ValueError(f"the limit must be at least 1, not {limit!r}; math.inf for no limit")
        if policy not in ("wait", "refuse"):
            raise ValueError(f'the policy must be "wait" or "refuse", not {policy!r}')
        self.limit = limit
        self.policy: GatePolicy = policy
        self.open_count = 0
        self._waiting = trio.lowlevel.ParkingLot()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.open_count} of {self.limit}, {self.policy}>"

    @property
    def is_full(self) -> bool:
        """Nobody may enter."""
        return self.open_count >= self.limit

    def enter(self) -> bool:
        """Count a connection, if there is room for it.

        Returns:
          whether there was. Who has entered has to `leave`.
        """
        if self.open_count >= self.limit:
            return False
        self.open_count += 1
        return True

    def leave(self) -> None:
        """Count a connection no more. Whoever waits is woken."""
        assert self.open_count > 0, "more have left than had entered"
        self.open_count -= 1
        if self._waiting:
            # All of them, not one: the first may be a listener to which nobody has come, and the others would
            # sleep on with their backlogs full.
            self._waiting.unpark_all()

    async def wait_free(self) -> None:
        """Wait until there is room. Another may have taken it meanwhile: `enter` tells.

        Cancellation: nothing has changed.
        """
        if self.open_count < self.limit:
            await trio.lowlevel.checkpoint()
        else:
            while self.open_count >= self.limit:
                await self._waiting.park()


# Protected from Ctrl-C, which then comes in the main task: an interrupt between two lines in here could leave
# an accepted connection, or the view of the listener, to the garbage collector.
@trio.lowlevel.enable_ki_protection
async def accept_loop(
    listener: trio.SocketListener, admit: TakeSocket, gate: Gate, *, refuse: TakeSocket | None = None
) -> None:
    """Accept connections until the listener is closed. It is not closed here.

    Args:
      listener: to accept on. Nobody else may.
      admit: gets each socket, connected and non-blocking, with the peer's address. The socket is its own from
        then on, and it or its successor has to call `Gate.leave` in the end. Synchronous: it is to start a
        task.
      gate: the limit, shared with other loops. A socket has entered when it is admitted.
      refuse: gets each socket beyond the limit, in the same form, as its own; it did not enter. For a gate
        that refuses.

    Returns:
      when the listener has been closed; if the gate is full at that time, as soon as it is not.

    Raises:
      OSError: the listener does not work; the fault of who made it. A connection that failed before it was
        accepted is passed over; a shortage of descriptors or memory is logged once as a warning, and the loop
        tries again until it is over.
      trio.BusyResourceError: another task accepts on this listener.
      Exception: what `admit` or `refuse` raised; the socket is closed, and has left the gate.

    Cancellation: no connection is lost: each is in the backlog, or has been admitted or refused. The listener
    is open, and another loop can go on with it.
    """
    _check(gate, refuse)
    sock = listener.socket
    fd = sock.fileno()
    if fd == -1:
        await trio.lowlevel.checkpoint()
        return
    shortage = _Shortage(sock.getsockname())
    holds_back = gate.policy == "wait"
    # With all its arguments, for otherwise Python asks the kernel for each of them.
    view = socket.socket(sock.family, sock.type, sock.proto, fd)
    try:
        view.setblocking(False)
        while True:
            if holds_back and gate.is_full:
                await gate.wait_free()
            if sock.fileno() == -1:
                return
            try:
                await wait_readable(fd)
            except trio.ClosedResourceError:
                return
            for _ in range(_BURST):
                if sock.fileno() == -1:
                    return
                if holds_back and gate.is_full:
                    break
                try:
                    connection, peername = view.accept()
                except BlockingIOError:
                    # Only now a shortage is over. Who has just got one descriptor may be short of the next.
                    shortage.end()
                    break
                except OSError as exc:
                    if exc.errno in _SHORTAGES:
                        await shortage.wait(exc)
                        break
                    if exc.errno not in _FAILED_BEFORE:
                        raise
                    continue
                _hand_over(connection, peername, admit, gate, refuse)
    finally:
        view.detach()


def _hand_over(
    connection: socket.socket, peername: Address, admit: TakeSocket, gate: Gate, refuse: TakeSocket | None
) -> None:
    """Admit or refuse a socket; close it if that fails."""
    entered = False
    try:
        connection.setblocking(False)
        entered = gate.enter()
        if entered:
            admit(connection, peername)
        else:
            assert refuse is not None, "a gate without a refusal was asked before"
            refuse(connection, peername)
    except BaseException:
        if entered:
            gate.leave()
        connection.close()
        raise


async def accept_foreign_loop(
    listener: trio.abc.Listener[Any], admit: TakeStream, gate: Gate, *, refuse: TakeStream | None = None
) -> None:
    """Accept streams from any listener until it is closed. It is not closed here.

    Args:
      listener: of whatever streams.
      admit: gets each stream, as `accept_loop` has it.
      gate: the limit. A gate that waits holds one stream beyond it for each foreign listener, accepted and
        not admitted, since only who has accepted knows that somebody came.
      refuse: as `accept_loop` has it.

    Returns:
      when the listener says that it is closed.

    Raises:
      Exception: what `listener`, `admit` or `refuse` raised. A shortage of descriptors or memory is treated
        as `accept_loop` does; the stream that was in hand is closed.

    Cancellation: a stream that was accepted and not admitted is closed; what the listener's own ``accept``
    loses is its affair.
    """
    _check(gate, refuse)
    shortage = _Shortage(listener)
    while True:
        if gate.policy == "wait" and gate.is_full:
            await gate.wait_free()
        try:
            stream = await listener.accept()
        except trio.ClosedResourceError:
            return
        except OSError as exc:
            if exc.errno not in _SHORTAGES:
                raise
            await shortage.wait(exc)
            continue
        entered = False
        try:
            shortage.end()
            while not (entered := gate.enter()) and gate.policy == "wait":
                await gate.wait_free()
            if entered:
                admit(stream)
            else:
                assert refuse is not None, "a gate without a refusal was asked before"
                refuse(stream)
        except BaseException:
            if entered:
                gate.leave()
            try:
                await trio.aclose_forcefully(stream)
            except Exception:  # the stream's own: it must not take the place of a cancel
                logger.exception("closing %r failed", stream)
            raise


def _check(gate: Gate, refuse: object) -> None:
    """Raise unless the gate's policy can be carried out."""
    if gate.policy == "refuse" and refuse is None:
        raise TypeError("a gate that refuses needs somebody to do it: refuse= is missing")


class _Shortage:
    """Waits out what the system is short of, and says so once.

    Args:
      where: the listener or its address, for the log.
    """

    def __init__(self, where: object) -> None:
        self._where = where
        self._told = False

    async def wait(self, exc: OSError) -> None:
        """Wait before the next attempt."""
        if not self._told:
            self._told = True
            logger.warning(
                "no connection can be accepted on %r: %s; trying again every %g s, silently",
                self._where,
                exc,
                _BACK_OFF_SECONDS,
            )
        await trio.sleep(_BACK_OFF_SECONDS)

    def end(self) -> None:
        """Nobody waits any longer to be accepted."""
        if self._told:
            self._told = False
            logger.info("connections can be accepted on %r again", self._where)
