"""The addresses of hosts: pinned, remembered, and asked for."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from typing import Any

import pytest
import trio
import trio.testing

from trio_http.client._addresses import Addresses


class Names:
    """A resolver that knows some names, waits while it is held, and keeps what it was asked.

    Verified by the tests below; it has no behaviour but a look into a mapping.
    """

    def __init__(self, **known: Sequence[str] | Exception) -> None:
        self.known = {name.replace("_", "."): answer for name, answer in known.items()}
        self.asked: list[tuple[str, int]] = []
        self.go_on = trio.Event()
        self.go_on.set()

    def hold(self) -> None:
        self.go_on = trio.Event()

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        self.asked.append((host, port))
        await self.go_on.wait()
        answer = self.known[host]
        if isinstance(answer, Exception):
            raise answer
        return answer


class SystemNames(trio.abc.HostnameResolver):
    """What a program may put in the place of the system's resolver, for all that trio does."""

    async def getaddrinfo(  # type: ignore[override]
        self, host: bytes | None, port: Any, family: int = 0, type: int = 0, proto: int = 0, flags: int = 0
    ) -> list[tuple[Any, ...]]:
        assert type == socket.SOCK_STREAM
        if host == b"unknown.example":
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [
            (socket.AF_INET6, type, 6, "", ("2001:db8::1", port, 0, 0)),
            (socket.AF_INET6, type, 6, "", ("fe80::1", port, 0, 2)),
            (socket.AF_INET, type, 6, "", ("192.0.2.1", port)),
            (socket.AF_INET, type, 6, "", ("192.0.2.1", port)),
            (socket.AF_UNIX, type, 6, "", "what is this"),
        ]

    async def getnameinfo(self, sockaddr: Any, flags: int) -> tuple[str, str]:
        raise AssertionError("nobody asks for that")


# ------------------------------------------------------------------------------------------------ resolvers


async def test_the_default_is_trios_resolver_with_whatever_was_put_in_its_place() -> None:
    # C15
    trio.socket.set_custom_hostname_resolver(SystemNames())
    try:
        addresses = await Addresses().of("some.example", 80)
        assert addresses == ("2001:db8::1", "fe80::1%2", "192.0.2.1")
        with pytest.raises(socket.gaierror) as caught:
            await Addresses().of("unknown.example", 80)
    finally:
        trio.socket.set_custom_hostname_resolver(None)
    assert caught.value.errno == socket.EAI_NONAME
    assert "'unknown.example'" in str(caught.value)


async def test_a_resolver_of_ones_own_is_asked_with_host_and_port() -> None:
    # C15
    names = Names(a_example=["192.0.2.7", "::1", "192.0.2.7"])
    assert await Addresses(resolver=names).of("a.example", 8443) == ("192.0.2.7", "::1")
    assert names.asked == [("a.example", 8443)]


@pytest.mark.parametrize("address", ["192.0.2.1", "2001:db8::1"])
async def test_an_ip_address_is_its_own_answer(address: str) -> None:
    names = Names()
    assert await Addresses(resolver=names).of(address, 80) == (address,)
    assert names.asked == []


async def test_a_resolver_that_knows_nothing_or_gives_names_is_told_apart() -> None:
    names = Names(none_example=[], alias_example=["b.example"], wrong_example=[1])
    addresses = Addresses(resolver=names)
    with pytest.raises(OSError, match=r"no address of 'none\.example'"):
        await addresses.of("none.example", 80)
    with pytest.raises(ValueError, match=r"'alias\.example'.*not 'b\.example'"):
        await addresses.of("alias.example", 80)
    with pytest.raises(ValueError, match="not 1"):
        await addresses.of("wrong.example", 80)


async def test_a_resolvers_own_exception_passes_as_it_is() -> None:
    failure = ZeroDivisionError()
    with pytest.raises(ZeroDivisionError) as caught:
        await Addresses(resolver=Names(a_example=failure)).of("a.example", 80)
    assert caught.value is failure


# ------------------------------------------------------------------------------------------------ pinned ones


async def test_pinned_addresses_go_before_everything_and_those_of_a_port_before_those_of_a_host() -> None:
    # C15: as curl's --resolve
    names = Names()
    addresses = Addresses(
        resolver=names,
        pinned={
            "A.example.": "192.0.2.1",
            ("a.example", 8443): ["192.0.2.2", "192.0.2.3"],
            "203.0.113.1": "127.0.0.1",
        },
    )
    assert await addresses.of("a.example", 80) == ("192.0.2.1",)
    assert await addresses.of("a.example.", 80) == ("192.0.2.1",)
    assert await addresses.of("a.example", 8443) == ("192.0.2.2", "192.0.2.3")
    assert await addresses.of("203.0.113.1", 80) == ("127.0.0.1",)
    assert names.asked == []


@pytest.mark.parametrize(
    ("pinned", "what"),
    [
        ({"a": "b.example"}, "'a'.*'b.example'"),
        ({"a": "[::1]"}, r"not '\[::1\]'"),
        ({("a", 1): []}, "at least one"),
    ],
)
def test_pinned_addresses_that_are_none_are_refused_at_once(pinned: Any, what: str) -> None:
    with pytest.raises(ValueError, match=what):
        Addresses(pinned=pinned)


# ------------------------------------------------------------------------------------------- remembered names


async def test_names_are_not_remembered_unless_asked_to() -> None:
    names = Names(a_example=["192.0.2.1"])
    addresses = Addresses(resolver=names)
    for _ in range(2):
        await addresses.of("a.example", 80)
    assert len(names.asked) == 2


async def test_a_name_is_remembered_for_a_fixed_time(mock_clock: trio.testing.MockClock) -> None:
    # C14
    names = Names(a_example=["192.0.2.1"])
    addresses = Addresses(resolver=names, cache_seconds=60)
    await addresses.of("a.example", 80)
    names.known["a.example"] = ["192.0.2.2"]
    mock_clock.jump(59)
    assert await addresses.of("A.example.", 80) == ("192.0.2.1",)
    mock_clock.jump(1)
    assert await addresses.of("a.example", 80) == ("192.0.2.2",)
    await addresses.of("a.example", 81)  # another service may have other addresses
    assert names.asked == [("a.example", 80), ("a.example", 80), ("a.example", 81)]


async def test_what_could_not_be_reached_is_forgotten() -> None:
    names = Names(a_example=["192.0.2.1"])
    addresses = Addresses(resolver=names, cache_seconds=60)
    await addresses.of("a.example", 80)
    addresses.forget("A.example", 80)
    addresses.forget("never.example", 80)
    await addresses.of("a.example", 80)
    assert len(names.asked) == 2


async def test_failures_are_not_remembered() -> None:
    names = Names(a_example=socket.gaierror(socket.EAI_AGAIN, "later"))
    addresses = Addresses(resolver=names, cache_seconds=60)
    with pytest.raises(socket.gaierror):
        await addresses.of("a.example", 80)
    names.known["a.example"] = ["192.0.2.1"]
    assert await addresses.of("a.example", 80) == ("192.0.2.1",)


async def test_no_more_than_a_bounded_number_of_names_is_remembered_and_the_oldest_goes_first() -> None:
    names = Names(**{f"n{number}": ["192.0.2.1"] for number in range(1001)})
    addresses = Addresses(resolver=names, cache_seconds=60)
    for number in range(1001):
        await addresses.of(f"n{number}", 80)
    assert len(addresses._known) == 1000
    await addresses.of("n1000", 80)
    await addresses.of("n1", 80)
    assert len(names.asked) == 1001
    await addresses.of("n0", 80)
    assert len(names.asked) == 1002


@pytest.mark.parametrize("seconds", [-1.0, float("nan")])
def test_a_time_that_is_none_is_refused(seconds: float) -> None:
    with pytest.raises(ValueError, match="at least 0"):
        Addresses(cache_seconds=seconds)


# -------------------------------------------------------------------------------------------- shared lookups


async def test_who_asks_for_the_same_at_the_same_time_shares_the_lookup() -> None:
    names = Names(a_example=["192.0.2.1"])
    addresses = Addresses(resolver=names)
    got: list[tuple[str, ...]] = []

    async def ask() -> None:
        got.append(await addresses.of("a.example", 80))

    names.hold()
    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(ask)
        await trio.testing.wait_all_tasks_blocked()
        names.go_on.set()
    assert got == [("192.0.2.1",)] * 5
    assert len(names.asked) == 1
    assert not addresses._lookups


async def test_a_failure_is_shared_too_as_an_error_of_each_ones_own() -> None:
    failure = socket.gaierror(socket.EAI_NONAME, "no such name")
    names = Names(a_example=failure)
    addresses = Addresses(resolver=names)
    caught: list[OSError] = []

    async def ask() -> None:
        try:
            await addresses.of("a.example", 80)
        except OSError as exc:
            caught.append(exc)

    names.hold()
    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(ask)
        await trio.testing.wait_all_tasks_blocked()
        names.go_on.set()
    assert len(names.asked) == 1
    assert len({id(exc) for exc in caught}) == 3
    assert {(type(exc), exc.errno, exc.strerror) for exc in caught} == {
        (socket.gaierror, socket.EAI_NONAME, "no such name")
    }


async def test_a_cancelled_lookup_is_begun_again_by_one_who_waits() -> None:
    names = Names(a_example=["192.0.2.1"])
    addresses = Addresses(resolver=names)
    got: list[tuple[str, ...]] = []

    async def ask(scope: trio.CancelScope) -> None:
        with scope:
            got.append(await addresses.of("a.example", 80))

    names.hold()
    async with trio.open_nursery() as nursery:
        first = trio.CancelScope()
        nursery.start_soon(ask, first)
        await trio.testing.wait_all_tasks_blocked()
        for _ in range(2):
            nursery.start_soon(ask, trio.CancelScope())
        await trio.testing.wait_all_tasks_blocked()
        assert len(names.asked) == 1
        first.cancel()
        await trio.testing.wait_all_tasks_blocked()
        assert len(names.asked) == 2
        names.go_on.set()
    assert got == [("192.0.2.1",)] * 2
    assert not addresses._lookups


async def test_who_waits_and_is_cancelled_leaves_the_lookup_alone() -> None:
    names = Names(a_example=["192.0.2.1"])
    addresses = Addresses(resolver=names)
    got: list[tuple[str, ...]] = []

    async def ask() -> None:
        got.append(await addresses.of("a.example", 80))

    names.hold()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask)
        await trio.testing.wait_all_tasks_blocked()
        with trio.move_on_after(0):
            await addresses.of("a.example", 80)
        names.go_on.set()
    assert got == [("192.0.2.1",)]
    assert len(names.asked) == 1
