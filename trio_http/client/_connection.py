"""One connection with the client's verbs, and no pool."""

from __future__ import annotations

from types import TracebackType
from typing import Self

import trio

from trio_http._errors import ConnectionLost, PoolClosed, RequestFacts
from trio_http.messages import FieldsInput
from trio_http.transport import Transport, transport_over

from ._config import ClientConfig
from ._link import Link
from ._plan import RequestPlan
from ._proxy import no_proxy
from ._request import Planner
from ._requester import Requester
from ._url import URLInput
from ._watch import Watch


def _unsent(plan: RequestPlan) -> RequestFacts:
    """Return the facts of a request of which nothing was sent."""
    return RequestFacts(method=plan.method.decode("ascii"), url=plan.url)


class _Alone:
    """The `Owner` of a single link."""

    def __init__(self, link: Link) -> None:
        self.closed = False
        self.leads_anywhere = False
        self.watch = Watch(link.config.instruments)
        self.now = link.now
        self.link = link
        self._lent = False

    def take(self, plan: RequestPlan) -> Link | None:
        """See `Owner.take`; None whenever `lease` has something to say."""
        if self._lent or self.closed or self.link.transport.closed or self.link.transport.is_stale():
            return None
        self._lent = True
        return self.link

    async def lease(self, plan: RequestPlan) -> Link:
        """See `Owner.lease`. No checkpoint, except before an error that the caller is not to blame for.

        Raises:
          trio.BusyResourceError: another request is under way.
          PoolClosed: the connection is closed.
          ConnectionLost: the server has closed it, or has said what nobody asked for. Nothing was sent.
        """
        if self._lent:
            raise trio.BusyResourceError("another request is under way on this connection")
        if self.closed or self.link.transport.closed:
            await trio.lowlevel.checkpoint()  # who tries until it succeeds must let others live
            raise PoolClosed("this connection is closed", _unsent(plan))
        if self.link.transport.is_stale():
            self.link.transport.close()
            await self.link.transport.aclose_forcefully()
            await trio.lowlevel.checkpoint()
            raise ConnectionLost(
                "the server has closed this connection, or broken its silence", _unsent(plan)
            )
        self._lent = True
        return self.link

    def may_lease_again(self, plan: RequestPlan) -> bool:
        """See `Owner.may_lease_again`: there is no other."""
        return False

    def give_back(self, link: Link, now: float | None = None) -> None:
        """See `Owner.give_back`."""
        self._lent = False
        link.tell_end("kept", "response complete")

    async def discard(self, link: Link, because: str, error: BaseException | None = None) -> None:
        """See `Owner.discard`.

        Cancellation: not affected.
        """
        self._lent = False
        link.transport.close()
        try:
            link.tell_end("handed over" if because == "upgraded" else "closed", because, error)
        finally:  # who is told may raise a KeyboardInterrupt
            await link.transport.aclose_forcefully()


class ClientConnection(Requester, trio.abc.AsyncResource):
    """A client over one connection that you have made: no pool, no dials, no second attempts.

    For one request at a time. Nobody watches the server's time here, so ``pace`` does not count; put a cancel
    scope round what may take too long. The origin in a URL decides the Host field, and is not compared with
    where the connection leads. It is closed by `aclose`, by ``async with``, by an error, by a cancel within a
    request, and by a response after which there can be no further one.

    Args:
      stream: a connected stream, TLS included if there shall be any; ours from now on.
      config: the settings; those of the pool do not matter. None: the defaults.
      base_url: what relative URLs are appended to.
      headers: fields of every request that does not say otherwise.

    Raises: as `Client`.
    """

    def __init__(
        self,
        stream: trio.abc.Stream | Transport,
        *,
        config: ClientConfig | None = None,
        base_url: URLInput | None = None,
        headers: FieldsInput | None = None,
    ) -> None:
        if config is None:
            config = ClientConfig()
        elif not isinstance(config, ClientConfig):
            raise TypeError(f"config must be a ClientConfig, not {config!r}")
        planner = Planner(config, base_url, headers, no_proxy)
        if not isinstance(stream, trio.abc.Stream | Transport):
            raise TypeError(f"stream must be a trio.abc.Stream, not {stream!r}; Client connects by itself")
        self._alone = _Alone(Link(transport_over(stream), config))
        super().__init__(self._alone, config, planner)

    @property
    def closed(self) -> bool:
        """No request can be made any more."""
        return self._alone.link.transport.closed

    async def aclose(self) -> None:
        """Close the connection; a request under way ends in `PoolClosed`. As `trio.abc.AsyncResource.aclose`.

        Cancellation: it is closed all the same.
        """
        self._alone.closed = True
        await self._alone.link.transport.aclose()

    async def __aenter__(self) -> Self:
        """Return the connection. No checkpoint.

        Cancellation: nothing has changed.
        """
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close the connection.

        Cancellation: it is closed all the same.
        """
        await self.aclose()
