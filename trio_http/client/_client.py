"""The client: a pool with verbs, open for the length of a block."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import NoReturn, Self, Unpack

import trio

from trio_http._kinds import check_int
from trio_http.messages import FieldsInput

from ._config import ClientConfig, ClientOptions, ClientStatistics, config_of
from ._connect import UnixSocket, unix_path
from ._pool import Pool
from ._proxy import ProxyChooser, as_chooser
from ._proxy_environment import EnvironmentProxies
from ._request import Planner
from ._requester import Requester
from ._url import URLInput


class Client(Requester):
    """Makes requests, and keeps connections for the next ones. To be used in ``async with``.

    Any number of tasks may use one client at once. When the block ends, all connections are closed; requests
    that other tasks still have under way end in `PoolClosed`. An exception of the block comes out as it is.

    Args:
      config: the settings; None: the defaults, with ``options``.
      base_url: what relative URLs are appended to; without query. None: all URLs are absolute.
      headers: fields of every request that does not say otherwise.
      options: the attributes of `ClientConfig`, in place of ``config``.

    Raises:
      TypeError: an unknown option, or both ``config`` and options.
      ValueError: an option is out of its range.
      InvalidRequest: a bad ``base_url``.
      trio_http.wire.LocalProtocolError, UnicodeEncodeError: bad ``headers``.
    """

    def __init__(
        self,
        config: ClientConfig | None = None,
        *,
        base_url: URLInput | None = None,
        headers: FieldsInput | None = None,
        **options: Unpack[ClientOptions],
    ) -> None:
        if config is None:
            config = config_of(options, None if base_url is None else str(base_url))
        elif not isinstance(config, ClientConfig):
            raise TypeError(
                f"config must be a ClientConfig, not {config!r}"
                + ("; a URL for all requests is base_url=" if isinstance(config, str) else "")
            )
        elif options:
            raise TypeError("give the settings as config or as options, not both")
        if config.proxies_from_environment:
            proxy_for: ProxyChooser = EnvironmentProxies().proxy_for
        else:
            proxy_for = as_chooser(config.proxy)
        if config.unix_socket is not None:
            proxy_for = _for_the_others(config.unix_socket, proxy_for)
        self._pool = Pool(config)
        super().__init__(self._pool, config, Planner(config, base_url, headers, proxy_for))
        self._nursery_manager: AbstractAsyncContextManager[trio.Nursery] | None = None
        self._supervision = trio.CancelScope()

    def __repr__(self) -> str:
        counts = self.statistics()
        return f"<Client: {counts.leased} leased, {counts.idle} idle, {counts.waiting} waiting>"

    def statistics(self) -> ClientStatistics:
        """Return how many connections there are in which state, and how many requests wait for one; in all
        and for each origin."""
        return self._pool.statistics()

    async def warm(self, url: URLInput, connections: int = 1) -> None:
        """Make connections before they are needed, and return when they are idle.

        They count as any others, and are closed when they have been idle for too long, or when their room is
        needed. Where there is no room for so many, as many are made as there is.

        Args:
          url: any URL of the origin, absolute or below ``base_url``.
          connections: how many are to be idle, at least 1; those that are already count.

        Raises:
          InvalidRequest: a bad URL.
          ConnectFailed: a connection could not be made; the others go on being made.
          PoolClosed: the client is closed, or was meanwhile.

        Cancellation: the dials go on; what they bring is idle.
        """
        check_int("connections", connections, 1)
        await self._pool.warm(self._planner.plan("GET", url), connections)

    # The nursery in here holds one task, the supervisor. Dials live in a nursery of that task's own: so
    # neither their errors nor their being cancelled can reach the user's block. And the nursery is never told
    # of the block's exception, which it would put into a group.

    def __enter__(self) -> NoReturn:
        raise RuntimeError("use `async with` for a client, not `with`")

    def __exit__(self, *_: object) -> NoReturn:
        raise AssertionError("a client cannot be entered by `with`")

    async def __aenter__(self) -> Self:
        """Open the client.

        Cancellation: it is not open, and nothing is left behind.
        """
        if not trio.lowlevel.in_trio_run():
            raise RuntimeError("a client needs Trio: start the program by trio.run, not by asyncio.run")
        if self._nursery_manager is not None:
            raise RuntimeError("a client can be opened once; make another one")
        self._nursery_manager = trio.open_nursery()
        nursery = await self._nursery_manager.__aenter__()
        ready = trio.Event()
        # Not by `start`: a task that shields itself would never come out of a `start` that is cancelled
        # meanwhile.
        nursery.start_soon(self._supervise, ready)
        try:
            await ready.wait()
        except BaseException as exc:
            await self.__aexit__(type(exc), exc, exc.__traceback__)
            raise
        return self

    async def _supervise(self, ready: trio.Event) -> None:
        with self._supervision as scope:
            # Clean-up in the block may need a request when all around it is cancelled, and shields itself for
            # that.
            scope.shield = True  # bounded: by the block, whose end cancels the scope
            await self._pool.run(ready)

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close the client.

        Cancellation: it is closed all the same.
        """
        assert self._nursery_manager is not None
        try:
            transports = self._pool.close()
            self._supervision.cancel(reason="the client is closed")
            for transport in transports:
                await transport.aclose_forcefully()
        finally:  # nothing may skip it: trio's nurseries have to be left in their order
            self._supervision.cancel(reason="the client is closed")
            await self._nursery_manager.__aexit__(None, None, None)


def _for_the_others(unix_socket: UnixSocket, proxy_for: ProxyChooser) -> ProxyChooser:
    """Return ``proxy_for`` for the origins that have no Unix socket; those that have one need no proxy."""
    return lambda origin: proxy_for(origin) if unix_path(unix_socket, origin) is None else None
