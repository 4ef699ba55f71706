"""Both ways of waiting: every test of sockets and TLS runs by Trio's own means and through an `EdgePoll`."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import trio

from trio_http.transport import EdgePoll, SocketTransport, TLSTransport
from trio_http.transport._socket import SocketBase


@pytest.fixture(params=["trio", "edge"])
async def each_way_of_waiting(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, nursery: trio.Nursery
) -> AsyncIterator[None]:
    """For a whole module: transports over sockets that its tests make wait in the one way, or the other."""
    if request.param == "trio":
        yield
        return
    if not EdgePoll.is_available:
        pytest.skip("this system has no epoll")
    poll = EdgePoll()
    make = SocketBase.__init__

    def make_attached(transport: SocketBase, *args: object) -> None:
        make(transport, *args)
        assert isinstance(transport, SocketTransport | TLSTransport)
        assert transport.attach(poll)

    monkeypatch.setattr(SocketBase, "__init__", make_attached)
    nursery.start_soon(poll.run)
    yield
    nursery.cancel_scope.cancel()
    poll.close()
