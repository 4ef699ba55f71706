"""Connecting: several addresses in turn and beside each other, by TCP and by Unix sockets."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from trio_http.client._addresses import Addresses
from trio_http.client._connect import (
    DialTimes,
    connect_host,
    connect_tcp,
    connect_unix,
    interleaved,
    unix_path,
)
from trio_http.client._origin import Origin

#: What becomes of a connection to an address, after so many seconds: it "stands", is "refused", meets a
#: "fault" of the factory, or stands once it is "released".
Fate = tuple[float, str]


class VirtualSocket(trio.socket.SocketType):
    """A socket of the `VirtualNetwork`: as much of the real thing as connecting needs."""

    def __init__(self, network: VirtualNetwork, family: int, type_: int, proto: int) -> None:
        self._network = network
        self._family, self._type, self._proto = family, type_, proto
        self._peer: tuple[Any, ...] | None = None
        self.bound: tuple[Any, ...] | None = None
        self.options: dict[tuple[int, int], Any] = {}
        self.closed = False

    family = property(lambda self: self._family)
    type = property(lambda self: self._type)
    proto = property(lambda self: self._proto)
    did_shutdown_SHUT_WR = False

    def setsockopt(self, level: int, option: int, value: Any, *_: Any) -> None:
        self.options[level, option] = value

    def getpeername(self) -> Any:
        if self._peer is None:
            raise OSError(errno.ENOTCONN, os.strerror(errno.ENOTCONN))
        return self._peer

    async def bind(self, address: Any) -> None:
        await trio.lowlevel.checkpoint()
        if address[0] == "192.0.2.66":
            raise OSError(errno.EADDRNOTAVAIL, os.strerror(errno.EADDRNOTAVAIL))
        self.bound = address

    async def connect(self, address: Any) -> None:
        began = trio.current_time() - self._network.epoch
        self._network.attempts.append((address[0], began))
        seconds, how = self._network.fates.get(address[0], (0.0, "stands"))
        await trio.sleep(seconds)
        if how == "released":
            await self._network.release.wait()
        if how == "refused":
            raise ConnectionRefusedError(errno.ECONNREFUSED, os.strerror(errno.ECONNREFUSED))
        if how == "fault":
            raise ZeroDivisionError
        self._peer = address

    def close(self) -> None:
        self.closed = True


class VirtualNetwork(trio.abc.SocketFactory):
    """Makes sockets whose connections go as `fates` says.

    Attributes:
      fates: by address; one that is not in there is connected to at once.
      attempts: addresses, and when each was tried, in seconds from the beginning.
      sockets: all that were made.
    """

    def __init__(self, **fates: Fate) -> None:
        self.fates: dict[str, Fate] = dict(fates)
        self.attempts: list[tuple[str, float]] = []
        self.sockets: list[VirtualSocket] = []
        self.epoch = trio.current_time()
        self.without_ipv6 = False
        self.release = trio.Event()

    def socket(self, family: int = 0, type: int = 0, proto: int = 0) -> VirtualSocket:
        if self.without_ipv6 and family == socket.AF_INET6:
            raise OSError(errno.EAFNOSUPPORT, os.strerror(errno.EAFNOSUPPORT))
        self.sockets.append(VirtualSocket(self, family, type, proto))
        return self.sockets[-1]

    def still_open(self) -> list[VirtualSocket]:
        return [sock for sock in self.sockets if not sock.closed]


@pytest.fixture
async def network() -> Any:
    made = VirtualNetwork()
    trio.socket.set_custom_socket_factory(made)
    return made


NEVER = (1e6, "stands")
FOUR, FIVE, SIX = "192.0.2.4", "192.0.2.5", "2001:db8::6"


# ------------------------------------------------------------------------------------------- one, and several


async def test_one_address_is_connected_to_with_no_delay_for_small_segments(
    autojump_clock: MockClock, network: VirtualNetwork
) -> None:
    stream = await connect_tcp([FOUR], 80)
    assert stream.socket.getpeername() == (FOUR, 80)
    (sock,) = network.sockets
    assert sock.options[socket.IPPROTO_TCP, socket.TCP_NODELAY]
    assert not sock.closed


async def test_the_next_attempt_begins_after_a_quarter_of_a_second_and_the_loser_is_closed(
    autojump_clock: MockClock, network: VirtualNetwork
) -> None:
    # C13: the first address swallows everything.
    network.fates[SIX] = NEVER
    network.fates[FOUR] = (0.1, "stands")
    stream = await connect_tcp([SIX, FOUR, FIVE], 443)
    assert stream.socket.getpeername()[0] == FOUR
    assert network.attempts == [(SIX, 0.0), (FOUR, 0.25)]
    assert [sock.getpeername()[0] for sock in network.still_open()] == [FOUR]


async def test_the_next_attempt_begins_at_once_when_one_has_failed(
    autojump_clock: MockClock, network: VirtualNetwork
) -> None:
    # C13
    network.fates[SIX] = (0.05, "refused")
    network.fates[FOUR] = (0.02, "refused")
    stream = await connect_tcp([SIX, FOUR, FIVE], 443)
    assert stream.socket.getpeername()[0] == FIVE
    assert [address for address, _ in network.attempts] == [SIX, FOUR, FIVE]
    assert [when for _, when in network.attempts] == pytest.approx([0.0, 0.05, 0.07])
    assert len(network.still_open()) == 1


async def test_a_failure_hastens_the_attempt_after_it_and_no_other(
    autojump_clock: MockClock, network: VirtualNetwork
) -> None:
    # The second was begun not long ago when the first fails: it gets its whole quarter of a second.
    network.fates[SIX] = (0.3, "refused")
    network.fates[FOUR] = NEVER
    stream = await connect_tcp([SIX, FOUR, FIVE], 443)
    assert stream.socket.getpeername()[0] == FIVE
    assert network.attempts == [(SIX, 0.0), (FOUR, 0.25), (FIVE, 0.5)]
    assert len(network.still_open()) == 1


async def test_an_attempt_that_is_slow_may_still_win(
    autojump_clock: MockClock, network: VirtualNetwork
) -> None:
    network.fates[SIX] = (0.4, "stands")
    network.fates[FOUR] = NEVER
    stream = await connect_tcp([SIX, FOUR], 443)
    assert stream.socket.getpeername()[0] == SIX
    assert len(network.still_open()) == 1


async def test_of_two_that_connect_in_the_same_instant_one_is_closed(
    autojump_clock: MockClock, network: VirtualNetwork
) -> None:
    network.fates.update({SIX: (0.0, "released"), FOUR: (0.0, "released")})
    async with trio.open_nursery() as nursery:
        nursery.start_soon(connect_tcp, [SIX, FOUR], 443)
        await trio.sleep(1)
        network.release.set()
    assert all(sock.getpeername() for sock in network.sockets)
    assert len(network.sockets) == 2
    assert len(network.still_open()) == 1


async def test_when_all_fail_the_error_names_each_address_and_how_it_failed(
    autojump_clock: MockClock, network: VirtualNetwork
) -> None:
    network.fates[SIX] = (0.3, "refused")
    network.fates[FOUR] = (0.0, "refused")
    with pytest.raises(OSError, match=r"192\.0\.2\.4:443") as caught:
        await connect_tcp([SIX, FOUR], 443)
    assert f"[{SIX}]:443" in str(caught.value)
    group = caught.value.__cause__
    assert isinstance(group, ExceptionGroup)
    assert [type(leaf) for leaf in group.exceptions] == [ConnectionRefusedError] * 2
    # In the order of the attempts, although the second failed first.
    first, second = group.exceptions
    assert SIX in str(first)
    assert FOUR in str(second)
    assert network.still_open() == []


async def test_the_error_of_a_single_address_keeps_its_number(
    autojump_clock: MockClock, network: VirtualNetwork
) -> None:
    network.fates[FOUR] = (0.0, "refused")
    with pytest.raises(ConnectionRefusedError) as caught:
        await connect_tcp([FOUR], 80)
    assert caught.value.errno == errno.ECONNREFUSED
    assert str(caught.value).count("refused") == 1
    assert "192.0.2.4:80" in str(caught.value)


async def test_a_system_without_ipv6_takes_the_other_addresses(
    autojump_clock: MockClock, network: VirtualNetwork
) -> None:
    network.without_ipv6 = True
    stream = await connect_tcp([SIX, FOUR], 80)
    assert stream.socket.getpeername()[0] == FOUR
    with pytest.raises(OSError, match="2001:db8::6"):
        await connect_tcp([SIX], 80)


@pytest.mark.parametrize("cancel_at", [0.0, 0.1, 0.3])
async def test_a_cancel_closes_every_socket(
    autojump_clock: MockClock, network: VirtualNetwork, cancel_at: float
) -> None:
    network.fates.update({SIX: NEVER, FOUR: NEVER})
    with trio.move_on_after(cancel_at) as scope:
        await connect_tcp([SIX, FOUR], 443)
    assert scope.cancelled_caught
    assert network.still_open() == []


async def test_a_cancel_in_the_instant_of_success_leaves_no_socket_behind(
    autojump_clock: MockClock, network: VirtualNetwork
) -> None:
    network.fates[SIX] = (0.1, "stands")
    scope = trio.CancelScope()
    won: list[bool] = []

    class Cancelling(VirtualSocket):
        async def connect(self, address: Any) -> None:
            await super().connect(address)
            scope.cancel()
            won.append(True)

    network.socket = lambda *args: network.sockets.append(Cancelling(network, *args)) or network.sockets[-1]  # type: ignore[method-assign, func-returns-value]
    with scope:
        await connect_tcp([SIX, FOUR], 443)
    assert won
    assert scope.cancelled_caught
    assert network.still_open() == []


async def test_a_fault_of_a_socket_factory_passes_as_it_is(
    autojump_clock: MockClock, network: VirtualNetwork
) -> None:
    network.fates[SIX] = (0.1, "fault")
    with pytest.raises(ZeroDivisionError):
        await connect_tcp([SIX, FOUR], 443)
    assert network.still_open() == []
    assert [address for address, _ in network.attempts] == [SIX]  # it would be the same with the other


async def test_no_address_is_an_error_of_the_caller() -> None:
    with pytest.raises(ValueError, match="at least one"):
        await connect_tcp([], 80)


@pytest.mark.parametrize(
    ("given", "order"),
    [
        ([SIX, "::2", FOUR, FIVE], [SIX, FOUR, "::2", FIVE]),
        ([FOUR, FIVE, "192.0.2.6", SIX], [FOUR, SIX, FIVE, "192.0.2.6"]),
        ([FOUR], [FOUR]),
        (["fe80::1%2", FOUR, SIX], ["fe80::1%2", FOUR, SIX]),
    ],
)
def test_families_alternate_beginning_with_that_of_the_first(given: list[str], order: list[str]) -> None:
    # RFC 8305 §4
    assert interleaved(given) == order


# ----------------------------------------------------------------------------------------- the local address


async def test_a_local_address_is_bound_and_leaves_its_own_family(
    autojump_clock: MockClock, network: VirtualNetwork
) -> None:
    # C17
    stream = await connect_tcp([SIX, FOUR], 80, local_address="192.0.2.9")
    assert stream.socket.getpeername()[0] == FOUR
    (sock,) = network.sockets
    assert sock.bound == ("192.0.2.9", 0)
    with pytest.raises(OSError, match="2001:db8::6 are of another family"):
        await connect_tcp([SIX], 80, local_address="192.0.2.9")


async def test_a_local_address_that_is_not_ours_is_told_with_both_addresses(
    autojump_clock: MockClock, network: VirtualNetwork
) -> None:
    with pytest.raises(OSError, match=r"192\.0\.2\.4:80 from 192\.0\.2\.66") as caught:
        await connect_tcp([FOUR], 80, local_address="192.0.2.66")
    assert caught.value.errno == errno.EADDRNOTAVAIL
    assert network.still_open() == []


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as made:
        yield made


@pytest.mark.interop
async def test_over_the_loopback_it_comes_from_the_local_address(listener: socket.socket) -> None:
    stream = await connect_tcp(["127.0.0.1"], listener.getsockname()[1], local_address="127.0.0.1")
    accepted, (host, _) = listener.accept()
    assert host == "127.0.0.1"
    accepted.close()
    await stream.aclose()


@pytest.mark.interop
async def test_over_the_loopback_a_dead_port_is_refused_in_words_that_say_it_once() -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        port = gone.getsockname()[1]
    with pytest.raises(ConnectionRefusedError) as caught:
        await connect_tcp(["127.0.0.1"], port)
    assert caught.value.strerror == f"{os.strerror(errno.ECONNREFUSED)}: 127.0.0.1:{port}"


# --------------------------------------------------------------------------------- names, and what is noted


async def test_times_and_the_address_are_noted(autojump_clock: MockClock, network: VirtualNetwork) -> None:
    # C61
    async def resolver(host: str, port: int) -> list[str]:
        await trio.sleep(2)
        return [SIX, FOUR]

    network.fates.update({SIX: NEVER, FOUR: (1.0, "stands")})
    start = trio.current_time()
    times = DialTimes(started=start)
    await connect_host(Addresses(resolver=resolver), "a.example", 80, times=times)
    assert times.resolved == pytest.approx(start + 2)
    assert times.connected == pytest.approx(start + 3.25)
    assert (times.proxied, times.secured, times.address) == (None, None, FOUR)


async def test_a_name_whose_addresses_are_dead_is_looked_up_anew(
    autojump_clock: MockClock, network: VirtualNetwork
) -> None:
    # C14: a cache must not outlast a move of the server.
    answers = iter([[FOUR], [FIVE]])

    async def resolver(host: str, port: int) -> list[str]:
        return next(answers)

    addresses = Addresses(resolver=resolver, cache_seconds=3600)
    network.fates[FOUR] = (0.0, "refused")
    times = DialTimes()
    with pytest.raises(ConnectionRefusedError):
        await connect_host(addresses, "a.example", 80, times=times)
    assert times.connected is None
    stream = await connect_host(addresses, "a.example", 80)
    assert stream.socket.getpeername()[0] == FIVE
    await connect_host(addresses, "a.example", 80)  # remembered: the resolver has no third answer


# ---------------------------------------------------------------------------------------------- Unix sockets

needs_unix = pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="this system has no Unix sockets")


@needs_unix
@pytest.mark.interop
async def test_a_unix_socket_is_connected_to(tmp_path: Path) -> None:
    # C16
    path = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()
        times = DialTimes()
        stream = await connect_unix(path, times=times)
        accepted, _ = listening.accept()
        await stream.send_all(b"x")
        assert accepted.recv(1) == b"x"
        accepted.close()
        await stream.aclose()
    assert times.address == str(path)
    assert times.connected is not None


@needs_unix
@pytest.mark.interop
async def test_a_unix_socket_that_is_not_there_is_named(tmp_path: Path) -> None:
    path = tmp_path / "nobody"
    with pytest.raises(FileNotFoundError) as caught:
        await connect_unix(path)
    assert caught.value.filename == str(path)
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    with pytest.raises(ConnectionRefusedError, match="nobody"):
        await connect_unix(path)


def test_the_path_of_a_unix_socket_is_one_for_all_or_by_origin() -> None:
    one, other = Origin("http", "one.example", 80), Origin("http", "other.example", 80)
    assert unix_path(None, one) is None
    assert unix_path(Path("a") / "b", one) == os.path.join("a", "b")
    by_origin = {one: "first"}
    assert unix_path(by_origin.get, one) == "first"
    assert unix_path(by_origin.get, other) is None
