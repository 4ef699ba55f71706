"""The awaits round the ledger: waiting for a connection, dialing one, closing what is too much.

The ledger decides and this carries out. All decisions fall in synchronous code, so there is no moment at
which a connection belongs to two, or to nobody:

- a waiter gets its connection *inside the wake-up*: the books say "leased" before its task runs. If a cancel
  comes after that, the task has the connection all the same and gives it back; if it came before, the waiter
  was struck out, and the connection goes elsewhere;
- a dial runs in a task of the client, not in its caller's, so a cancelled request does not waste a handshake.
  However it ends, a ``finally`` reports it.
"""

from __future__ import annotations

import contextlib
import contextvars
import functools
import logging
import math
from collections.abc import Callable
from typing import Final, TypeAlias

import trio

from trio_http._errors import ConnectFailed, PoolClosed, RequestFacts
from trio_http.connection import Ticker
from trio_http.transport import EdgePoll, Transport

from ._config import ClientConfig, ClientStatistics
from ._connect import DialTimes
from ._dial import Dialer
from ._ledger import Abandon, Close, Dial, Fail, Give, Ledger, Order, Slot, State, Waiter
from ._link import Link, nothing
from ._plan import RequestPlan
from ._proxy import ProxyFailed
from ._route import Route
from ._watch import Watch

logger = logging.getLogger("trio_http.client")

# With so many exchanges under way, their connections wait through one epoll of ours. Measured: it saves a
# tenth of the time at 16 tasks and a sixth at 256, and costs a fifth with a single one.
_MANY: Final = 12


class _Request(Waiter):
    """A task that waits for a connection.

    Attributes:
      task: whom to wake.
      context: its context variables, for the dial that is made in its name.
      link, error: what it is woken with.
    """

    __slots__ = ("context", "error", "link", "task")

    def __init__(self) -> None:
        super().__init__()
        self.task = trio.lowlevel.current_task()
        self.context = contextvars.copy_context()
        self.link: Link | None = None
        self.error: BaseException | None = None


_Books: TypeAlias = "Ledger[Link, _Request]"
_Orders: TypeAlias = "list[Order[Link, _Request]]"
_Slot: TypeAlias = "Slot[Link]"


class Pool:
    """The connections of one client. An `Owner`.

    Args:
      config: how many, how long.

    Attributes:
      closed: `close` was called.
      leads_anywhere: see `Owner`.
      watch: who looks on.
      now: tells the time on trio's clock.
      ledger: the books; to be read.
    """

    def __init__(self, config: ClientConfig) -> None:
        self.closed = False
        self.leads_anywhere = True
        self.watch = Watch(config.instruments)
        self.ledger: _Books = Ledger(config.max_connections, config.max_connections_per_origin)
        self._config = config
        self._dialer = Dialer(config)
        self._ticker = Ticker()
        self._dials: dict[_Slot, trio.CancelScope] = {}
        self._warming: dict[_Slot, list[Callable[[BaseException | None], None]]] = {}
        self._nursery: trio.Nursery | None = None
        self._poll: EdgePoll | None = None
        self.now: Callable[[], float] = trio.current_time

    async def run(self, ready: trio.Event) -> None:
        """Be the task that dials and expires, until cancelled. Call `close` before that.

        Args:
          ready: to be set when `lease` may be called.

        Cancellation: the tasks in here end. What they were dialing is closed.
        """
        self.now = trio.lowlevel.current_clock().current_time  # asked for in each exchange
        async with trio.open_nursery() as self._nursery:
            ready.set()
            self._nursery.start_soon(self._ticker.run)

    def close(self) -> list[Transport]:
        """Refuse from now on, fail who waits, abandon dials, close every connection. No checkpoint.

        Returns:
          The transports that it closed. `Transport.aclose_forcefully` has yet to finish those that are
          foreign streams.
        """
        self.closed = True
        links: list[Link] = []
        for order in self.ledger.close_all():
            if isinstance(order, Close):
                link = order.slot.connection
                assert link is not None
                self._forget(link)
                link.transport.close()
                links.append(link)
            else:
                self._carry_out([order])
        if self._poll is not None:
            self._poll.close()
        for link in links:
            if link.watch is None:  # else its exchange ends first, and tells
                self._tell_closed(link, "client closed")
        return [link.transport for link in links]

    def statistics(self) -> ClientStatistics:
        """Return how many connections there are in which state, and how many requests wait for one."""
        return self.ledger.statistics()

    # -- leasing ---------------------------------------------------------------------------------------------

    def take(self, plan: RequestPlan) -> Link | None:
        """See `Owner.take`: an idle connection by the route of ``plan``, if there is one.

        Connections that the server has closed, or on which it has said what nobody asked for, are closed.
        """
        ledger = self.ledger
        while (slot := ledger.take(plan.route)) is not None:
            link = slot.connection
            assert link is not None
            link.receive_deadline = math.inf
            if not link.transport.is_stale():
                if not link.attached and ledger.leased >= _MANY:
                    self._attach(link)
                return link
            self._carry_out(ledger.close(slot))
            self._close_unused(link, "closed by the server")
        return None

    async def lease(self, plan: RequestPlan) -> Link:
        """Return a connection by the route of ``plan``: an idle one, or the first that is given back or
        dialed.

        Not a checkpoint when an idle one is there.

        Raises:
          PoolClosed: the pool is closed, or was while this waited.
          ConnectFailed: a dial failed; the cause says how.

        Cancellation: nothing is held. A dial that was made for it may go on, for others.
        """
        return self.take(plan) or await self._wait(plan)

    async def _wait(self, plan: RequestPlan) -> Link:
        if self._nursery is None or self.closed:
            refusal = _refusal(plan, opened=self._nursery is not None)
            await trio.lowlevel.checkpoint()  # who tries until it succeeds must let others live
            raise refusal
        await trio.lowlevel.checkpoint_if_cancelled()
        # No checkpoint from here to the wait: what is ordered is ordered for a waiter who is there.
        waiter = _Request()
        self._carry_out(self.ledger.wait(plan.route, waiter))

        def give_up(_: object) -> trio.lowlevel.Abort:
            self._carry_out(self.ledger.give_up(waiter))
            return trio.lowlevel.Abort.SUCCEEDED

        await trio.lowlevel.wait_task_rescheduled(give_up)
        if waiter.link is not None:
            return waiter.link
        if waiter.error is None:
            raise _refusal(plan, opened=True)
        raise _connect_error(plan, waiter.error)

    async def warm(self, plan: RequestPlan, connections: int) -> None:
        """See that there are so many connections by the route of ``plan`` that are idle, as far as there is
        room.

        Raises:
          PoolClosed: the pool is closed.
          ConnectFailed: a dial failed; the others go on.

        Cancellation: the dials go on.
        """
        if self._nursery is None or self.closed:
            refusal = _refusal(plan, opened=self._nursery is not None)
            await trio.lowlevel.checkpoint()  # who tries until it succeeds must let others live
            raise refusal
        await trio.lowlevel.checkpoint_if_cancelled()
        ended = trio.Event()
        errors: list[BaseException] = []
        under_way = 0

        def note(error: BaseException | None) -> None:
            nonlocal under_way
            under_way -= 1
            if error is not None:
                errors.append(error)
            if not under_way or errors:
                ended.set()

        # Dials that others have begun, or requests that were cancelled, are as good as ours.
        spare = self.ledger.spare_dials(plan.route)
        idle = self.ledger.count(plan.route) - len(spare)
        slots = spare[: max(0, connections - idle)]
        while self.ledger.count(plan.route) < connections:
            orders = self.ledger.warm(plan.route)
            if not orders:
                break
            slots += [order.slot for order in orders if isinstance(order, Dial)]
            self._carry_out(orders)
        for slot in slots:
            self._warming.setdefault(slot, []).append(note)
            under_way += 1
        if under_way:
            await ended.wait()
        else:
            await trio.lowlevel.cancel_shielded_checkpoint()
        if self.closed:
            raise _refusal(plan, opened=True)
        if errors:
            raise _connect_error(plan, errors[0])

    def may_lease_again(self, plan: RequestPlan) -> bool:
        """See `Owner.may_lease_again`: idle connections as old as one that was dead are not tried one after
        the other.
        """
        self._carry_out(self.ledger.close_idle(plan.route))
        return not self.closed

    def give_back(self, link: Link, now: float | None = None) -> None:
        """See `Owner.give_back`."""
        # Who looks on is told last: nothing that they do must keep the connection from its place.
        watched = link.watch is not None
        slot: _Slot = link.slot
        if slot.state is State.CLOSED:
            # With the pool, and the transport too; who looks on is told last of the connection.
            link.tell_end("kept", "response complete")
            self._tell_closed(link, "client closed")
        elif slot.place.waiters and link.transport.is_stale():
            # It would go to the next waiter at once, who takes what is here already for its answer.
            watched = False
            link.tell_end("kept", "response complete")
            self._close_unused(link, "closed by the server")
            self._carry_out(self.ledger.close(slot))
        else:
            orders = self.ledger.give_back(slot)
            if slot.state is State.IDLE:
                link.rest_until((link.now() if now is None else now) + link.idle_seconds)
            if orders:
                self._carry_out(orders)
        if watched:
            link.tell_end("kept", "response complete")

    async def discard(self, link: Link, because: str, error: BaseException | None = None) -> None:
        """See `Owner.discard`.

        Cancellation: not affected; the connection is closed when this returns.
        """
        link.transport.close()
        self._forget(link)
        self._carry_out(self.ledger.close(link.slot))
        try:
            link.tell_end("handed over" if because == "upgraded" else "closed", because, error)
            self._tell_closed(link, because)
        finally:  # they may raise a KeyboardInterrupt
            await link.transport.aclose_forcefully()

    # -- carrying out ----------------------------------------------------------------------------------------

    def _carry_out(self, orders: _Orders, error: BaseException | None = None) -> None:
        """Do what the ledger ordered; ``error`` is for those who are to be failed."""
        for order in orders:
            match order:
                case Give(slot, waiter):
                    waiter.link = slot.connection
                    trio.lowlevel.reschedule(waiter.task)
                case Fail(waiter):
                    waiter.error = error
                    trio.lowlevel.reschedule(waiter.task)
                case Dial(slot, waiter):
                    self._begin_dial(slot, contextvars.copy_context() if waiter is None else waiter.context)
                case Abandon(slot):
                    self._end_warming(slot, None)
                    scope = self._dials.pop(slot, None)
                    if scope is not None:  # else it has ended, and is being settled
                        scope.cancel(reason="the slot of this dial is needed, and its connection is not")
                case Close(slot):
                    assert slot.connection is not None
                    self._close_unused(slot.connection, "making room")

    def _close_unused(self, link: Link, because: str) -> None:
        """Close a connection where nobody can await."""
        self._forget(link)
        self._finish_soon(link.transport)
        self._tell_closed(link, because)

    def _attach(self, link: Link) -> None:
        """Let a connection wait through the pool's epoll from now on, where that can be."""
        link.attached = True
        # Without an epoll, or a descriptor left for one, it waits as it did before. What else may be wrong
        # with a transport that a dial of the caller's has given (it is closed, or attached already) is for
        # its exchange to meet.
        with contextlib.suppress(NotImplementedError, OSError, ValueError, trio.ClosedResourceError):
            if self._poll is None:
                assert self._nursery is not None
                self._poll = EdgePoll()
                self._nursery.start_soon(self._poll.run)
            link.transport.attach(self._poll)

    def _finish_soon(self, transport: Transport) -> None:
        """Close a transport; what is left to do on a foreign stream is done in a task."""
        transport.close()
        assert self._nursery is not None
        self._nursery.start_soon(_finish, transport)

    def _forget(self, link: Link) -> None:
        """Let go of a connection that is being closed, also where it stood to be looked at later."""
        link.lift_limits()
        self._ticker.forget(link)
        # These two lead back to it: it would be there until Python next looks for cycles.
        link.on_expiry = nothing
        link.slot.connection = None

    def _tell_closed(self, link: Link, because: str) -> None:
        """Tell the instruments of the end of a connection."""
        self.watch.closed(link.record, link.exchanges, because)
        link.record = None

    def _end_warming(self, slot: _Slot, error: BaseException | None) -> None:
        """Tell who warms up that a dial of theirs has ended."""
        for note in self._warming.pop(slot, ()):
            note(error)

    def _begin_dial(self, slot: _Slot, context: contextvars.Context) -> None:
        assert self._nursery is not None
        # The limit begins now, and the scope is there now: the task may be abandoned before it has begun.
        scope = self._dials[slot] = trio.CancelScope(deadline=trio.current_time() + self._config.dial_seconds)
        # Within its caller's context, which the new task then copies.
        context.run(self._nursery.start_soon, self._run_dial, slot, scope)

    async def _run_dial(self, slot: _Slot, scope: trio.CancelScope) -> None:
        transport: Transport | None = None
        error: BaseException | None = None
        times = DialTimes()
        try:
            with scope:
                transport = await self._dialer.dial(slot.route, times)
            if transport is None:
                error = trio.TooSlowError(
                    f"not made within {self._config.dial_seconds:g} s, and then {_step(slot.route, times)}"
                )
        except Exception as exc:  # noqa: BLE001  # handed to who waits for the connection, or logged
            error = exc
        except BaseException as exc:  # noqa: ASYNC103  # what is handed on is no cancel
            if slot.state is State.CLOSED or not _is_of_the_callers(exc) or not slot.place.waiters:
                raise
            error = exc  # of a function of the caller's, who waits for it
        finally:
            # No checkpoint from here to the report.
            self._dials.pop(slot, None)
            if slot.state is not State.CLOSED:
                self._settle_dial(slot, transport, times, error)
            else:
                self.watch.dialed(slot.route, times, None, None)
                if transport is not None:
                    self._finish_soon(transport)

    def _settle_dial(
        self, slot: _Slot, transport: Transport | None, times: DialTimes, error: BaseException | None
    ) -> None:
        """Enter the end of a dial in the books."""
        record = self.watch.dialed(slot.route, times, transport, error)
        if transport is None:
            orders = self.ledger.dial_failed(slot)
            if slot not in self._warming and not any(isinstance(order, Fail) for order in orders):
                logger.info(
                    "a connection to %s that nobody waited for any more failed: %r", slot.route, error
                )
            self._end_warming(slot, error)
            self._carry_out(orders, error)
            return
        link = slot.connection = Link(transport, self._config, self._ticker)
        link.slot = slot
        if self.ledger.leased >= _MANY:
            self._attach(link)
        link.dial = times
        link.record = record
        link.on_expiry = functools.partial(self._expire, link)
        orders = self.ledger.dialed(slot)
        if slot.state is State.IDLE:
            link.rest_until(trio.current_time() + link.idle_seconds)
        self._end_warming(slot, None)
        self._carry_out(orders)

    def _expire(self, link: Link) -> None:
        """Close a connection that was idle for too long, or whose server was too slow. Called in the ticker's
        task.
        """
        if link.slot.state is State.LEASED:
            # Its exchange is woken by the close, and takes it off the books.
            self._finish_soon(link.transport)
        else:
            self._carry_out(self.ledger.close(link.slot))
            self._close_unused(link, "idle")


def _is_of_the_callers(error: BaseException) -> bool:
    """Tell whether an exception that is no `Exception` can be handed to another task: no cancel is in it."""
    if isinstance(error, BaseExceptionGroup):
        return error.subgroup(trio.Cancelled) is None
    return not isinstance(error, trio.Cancelled)


def _step(route: Route, times: DialTimes) -> str:
    """Return what a dial was at when its time was up."""
    if times.connected is None:
        return "looking for the address" if times.resolved is None else "connecting"
    if route.proxy is not None and not route.is_forwarded and times.proxied is None:
        return "waiting for the proxy"
    return "in the TLS handshake"


async def _finish(transport: Transport) -> None:
    """Finish a closed transport; the error of a foreign stream that cannot even be closed is nobody's."""
    try:
        await transport.aclose_forcefully()
    except Exception:
        logger.exception("closing %r failed", transport)


def _why(error: BaseException) -> str:
    """Return what an error says; for one that stands for several attempts, what those say."""
    group = error.__cause__
    if not isinstance(group, BaseExceptionGroup):
        return str(error)
    return "; ".join(dict.fromkeys(str(leaf) for leaf in group.exceptions))


def _refusal(plan: RequestPlan, *, opened: bool) -> Exception:
    """Return why no connection is lent."""
    if not opened:
        return RuntimeError("the client is not open: use it within `async with`")
    return PoolClosed("the client is closed", _facts(plan))


def _connect_error(plan: RequestPlan, error: BaseException) -> BaseException:
    """Return what a request raises whose dial has failed."""
    failures = (OSError, trio.BrokenResourceError, trio.TooSlowError, ProxyFailed)
    if not isinstance(error, failures):
        return error  # of a function of the user's own
    failed = ConnectFailed(f"no connection to {plan.route}: {_why(error)}", _facts(plan))
    failed.__cause__ = error
    return failed


def _facts(plan: RequestPlan) -> RequestFacts:
    """Return the facts of a request that never had a connection."""
    return RequestFacts(method=plan.method.decode("ascii"), url=plan.url)
