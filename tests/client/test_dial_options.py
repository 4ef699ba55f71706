"""What a `Client` is told about its dials: names, addresses, Unix sockets, proxies; over real sockets."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import trio

import trio_http
from tests.client._loopback import (
    AUTHORITY,
    facts,
    head_from,
    listening,
    origin,
    serving,
    trusting,
    tunnelling,
)
from trio_http import ConnectFailed
from trio_http.client import Client, ClientConfig, Origin, Proxy

pytestmark = pytest.mark.interop


@pytest.fixture(autouse=True)
def without_proxies_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


class Names:
    """A resolver that knows names of the test, and notes who asks.

    Attributes:
      asked: hosts and ports, in turn.
    """

    def __init__(self, **known: Sequence[str]) -> None:
        self.known = {name.replace("_", "."): addresses for name, addresses in known.items()}
        self.asked: list[tuple[str, int]] = []

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        await trio.lowlevel.checkpoint()
        self.asked.append((host, port))
        return self.known[host]


async def failure_of(client: Client, url: str) -> ConnectFailed:
    with pytest.raises(ConnectFailed) as caught:
        await client.get(url)
    error = caught.value
    assert error.__cause__ is not None
    assert (error.facts.bytes_sent, error.facts.may_have_acted) == (0, False)
    counts = client.statistics()
    assert (counts.dialing, counts.leased, counts.waiting) == (0, 0, 0)
    return error


# -------------------------------------------------------------------------------------- names and addresses


async def test_a_resolver_finds_the_addresses_and_the_host_stays_what_it_was() -> None:
    # C15
    names = Names(origin_example=["127.0.0.1"])
    async with origin() as port, Client(resolver=names) as client:
        answer = (await client.get(f"http://origin.example:{port}/")).json()
        assert answer["host"] == f"origin.example:{port}"
        assert names.asked == [("origin.example", port)]
        assert (await client.get(f"http://127.0.0.1:{port}/")).status == 200
        assert len(names.asked) == 1, "an address needs no resolver"


async def test_the_second_address_is_taken_when_the_first_refuses() -> None:
    # C13, A60
    with socket.create_server(("127.0.0.2", 0)) as silent:
        closed_port = silent.getsockname()[1]
    names = Names(origin_example=["127.0.0.2", "127.0.0.1"])
    async with origin() as port, Client(resolver=names) as client:
        assert (await client.get(f"http://origin.example:{port}/")).json()["peer"] == "127.0.0.1"
        error = await failure_of(client, f"http://origin.example:{closed_port}/")
        assert f"127.0.0.2:{closed_port}" in str(error)
        assert f"127.0.0.1:{closed_port}" in str(error)
        assert error.__cause__ is not None
        assert isinstance(error.__cause__.__cause__, ExceptionGroup)


async def test_an_error_of_the_resolvers_own_comes_out_as_it_is_and_an_os_error_does_not() -> None:
    async def fails(host: str, port: int) -> Sequence[str]:
        await trio.lowlevel.checkpoint()
        raise {"broken.example": LookupError("a bug"), "unknown.example": OSError("no such name here")}[host]

    async with Client(resolver=fails) as client:
        with pytest.raises(LookupError, match="a bug"):
            await client.get("http://broken.example/")
        assert client.statistics().waiting == 0
        assert "no such name here" in str(await failure_of(client, "http://unknown.example/"))


async def test_an_unknown_name_is_named() -> None:
    async with Client() as client:
        error = await failure_of(client, "http://no-such-host.invalid/")
        assert "no-such-host.invalid" in str(error)
        assert isinstance(error.__cause__, socket.gaierror)


async def test_pinned_addresses_go_before_the_resolver_by_host_and_by_port() -> None:
    # C15: as curl's --resolve.
    names = Names()
    async with origin() as port, origin() as other:
        pins = {"pinned.example": "127.0.0.1", ("ported.example", other): ["127.0.0.1"]}
        async with Client(resolver=names, pinned_addresses=pins) as client:
            for url in (f"http://PINNED.example.:{port}/", f"http://ported.example:{other}/"):
                assert (await client.get(url)).status == 200
            with pytest.raises(KeyError):
                await client.get(f"http://ported.example:{port}/")
    assert names.asked == [("ported.example", port)]


@pytest.mark.parametrize(("seconds", "lookups"), [(1000.0, 1), (0.0, 3)])
async def test_found_addresses_are_kept_for_as_long_as_was_said(seconds: float, lookups: int) -> None:
    # C14
    names = Names(origin_example=["127.0.0.1"])
    async with origin() as port, Client(resolver=names, name_cache_seconds=seconds) as client:
        for _ in range(3):
            await client.get(f"http://origin.example:{port}/last")  # each on a connection of its own
    assert len(names.asked) == lookups


async def test_addresses_that_could_not_be_reached_are_looked_up_anew() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        closed_port = listener.getsockname()[1]
    names = Names(origin_example=["127.0.0.1"])
    async with Client(resolver=names, name_cache_seconds=1000) as client:
        for _ in range(2):
            await failure_of(client, f"http://origin.example:{closed_port}/")
    assert len(names.asked) == 2


async def test_connections_come_from_the_local_address() -> None:
    # C17
    async with origin() as port:
        async with Client(local_address="127.0.0.9") as client:
            assert (await client.get(f"http://127.0.0.1:{port}/")).json()["peer"] == "127.0.0.9"
        async with Client(local_address="::1") as client:
            assert "another family" in str(await failure_of(client, f"http://127.0.0.1:{port}/"))
        async with Client(local_address="192.0.2.1") as client:
            assert "from 192.0.2.1" in str(await failure_of(client, f"http://127.0.0.1:{port}/"))


# --------------------------------------------------------------------------------------------- Unix sockets


async def test_a_unix_socket_stands_for_every_origin_or_for_some(tmp_path: Path) -> None:
    # C16
    path = tmp_path / "origin"

    def local(origin: Origin) -> Path | None:
        return path if origin.host == "local.example" else None

    async with origin() as port, trio.open_nursery() as nursery:
        await nursery.start(trio_http.serve_unix, facts, path)
        for setting in (path, str(path)):
            async with Client(unix_socket=setting) as client:
                answer = (await client.get("http://anything.example/x")).json()
                assert (answer["target"], answer["host"]) == ("/x", "anything.example")
        # What has a socket of its own needs no proxy, which here nobody could connect to.
        async with Client(unix_socket=local, proxy="http://127.0.0.1:9") as client:
            assert (await client.get("http://local.example/x")).json()["target"] == "/x"
            assert "127.0.0.1:9" in str(await failure_of(client, f"http://127.0.0.1:{port}/x"))
        async with Client(unix_socket=local) as client:
            assert (await client.get(f"http://127.0.0.1:{port}/x")).json()["peer"] == "127.0.0.1"
        nursery.cancel_scope.cancel()
    async with Client(unix_socket=tmp_path / "nothing") as client:
        error = await failure_of(client, "http://anything.example/")
        assert str(tmp_path / "nothing") in str(error)
        assert isinstance(error.__cause__, FileNotFoundError)


# -------------------------------------------------------------------------------------------------- proxies


async def answering_as_proxy(heads: list[bytes], stream: trio.SocketStream) -> None:
    while head := await head_from(stream):
        heads.append(head)
        await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nproxy")


@pytest.mark.parametrize("kind", ["str", "Proxy", "function", "environment"])
async def test_a_proxy_is_named_in_four_ways(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # C18, C19
    heads: list[bytes] = []
    async with origin() as port, listening(lambda stream: answering_as_proxy(heads, stream)) as proxy_port:
        url = f"http://user:se%2Fcret@127.0.0.1:{proxy_port}"
        proxy = Proxy.from_url(url)
        options: dict[str, Any] = {
            "str": {"proxy": url},
            "Proxy": {"proxy": proxy},
            "function": {"proxy": lambda origin: None if origin.port == port else proxy},
            "environment": {"proxies_from_environment": True},
        }[kind]
        monkeypatch.setenv("http_proxy", url)
        monkeypatch.setenv("no_proxy", f"127.0.0.1:{port}")
        async with Client(**options) as client:
            for host in ("one.example", "two.example"):
                assert (await client.get(f"http://{host}/x?y")).content == b"proxy"
            assert client.statistics().idle == 1, "one connection to the proxy serves both origins"
            if kind in ("function", "environment"):
                assert (await client.get(f"http://127.0.0.1:{port}/x")).json()["target"] == "/x"
    assert [head.partition(b"\r\n")[0] for head in heads] == [
        b"GET http://one.example/x?y HTTP/1.1",
        b"GET http://two.example/x?y HTTP/1.1",
    ]
    assert all(b"Proxy-Authorization: Basic dXNlcjpzZS9jcmV0\r\n" in head for head in heads)


async def test_without_being_asked_the_environment_is_not_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    # C19
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    async with origin() as port, Client() as client:
        assert (await client.get(f"http://127.0.0.1:{port}/")).status == 200


async def test_pinned_addresses_and_the_local_address_hold_for_proxies_too() -> None:
    # C15, C17, C18
    heads: list[bytes] = []
    pins = {"proxy.example": "127.0.0.1"}
    async with (
        origin(serving()) as port,
        listening(tunnelling(heads)) as proxy_port,
        Client(
            proxy=f"http://proxy.example:{proxy_port}",
            pinned_addresses=pins,
            local_address="127.0.0.1",
            ssl_context=trusting(),
        ) as client,
    ):
        for _ in range(2):
            response = await client.get(f"https://origin.example:{port}/x")
            assert response.json()["host"] == f"origin.example:{port}"
    assert len(heads) == 1
    assert heads[0].startswith(b"CONNECT origin.example:%d HTTP/1.1\r\n" % port)


async def test_a_tunnel_through_a_proxy_under_tls_is_tls_in_tls() -> None:
    # C18, A58: each with a context of its own.
    heads: list[bytes] = []
    proxies = type(AUTHORITY)()
    outer = serving(proxies.issue_cert("127.0.0.1"))

    async def play(stream: trio.SocketStream) -> None:
        await tunnelling(heads)(trio.SSLStream(stream, outer, server_side=True, https_compatible=True))

    async with origin(serving()) as port, listening(play) as proxy_port:
        proxy = Proxy.from_url(f"https://127.0.0.1:{proxy_port}", ssl_context=trusting(proxies))
        async with Client(proxy=proxy, ssl_context=trusting()) as client:
            for _ in range(3):
                assert (await client.get(f"https://127.0.0.1:{port}/x")).json()["target"] == "/x"
        async with Client(proxy=f"https://127.0.0.1:{proxy_port}", ssl_context=trusting(proxies)) as client:
            # The client's context is for origins, and does not speak for the proxy.
            assert "certificate" in str(await failure_of(client, f"https://127.0.0.1:{port}/x")).lower()
    assert len(heads) == 1


async def test_a_function_that_chooses_a_proxy_may_fail_in_its_own_way() -> None:
    def broken(_: Origin) -> Proxy | None:
        raise LookupError("a bug")

    def wrong(_: Origin) -> Any:
        return "http://127.0.0.1:9"

    async with Client(proxy=broken) as client:
        with pytest.raises(LookupError, match="a bug"):
            await client.get("http://origin.example/")
    async with Client(proxy=wrong) as client:
        with pytest.raises(TypeError, match="expected a Proxy or None"):
            await client.get("http://origin.example/")


async def test_no_error_of_a_proxy_shows_its_password() -> None:
    async def refuse(stream: trio.SocketStream) -> None:
        await stream.receive_some()  # or the beginning of something else than HTTP
        await stream.send_all(b"HTTP/1.1 407 No\r\nProxy-Authenticate: Basic\r\nContent-Length: 0\r\n\r\n")

    async with listening(refuse) as port:
        for scheme in ("http", "https", "socks5", "socks5h"):
            with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as listener:
                closed_port = listener.getsockname()[1]
            for proxy_port in (port, closed_port):
                url = f"{scheme}://user:geheim@127.0.0.1:{proxy_port}"
                async with Client(proxy=url, pinned_addresses={"origin.example": "127.0.0.1"}) as client:
                    error = await failure_of(client, "https://origin.example/")
                    seen: BaseException | None = error
                    while seen is not None:
                        assert "geheim" not in f"{seen!r} {seen}"
                        seen = seen.__cause__
                    assert "geheim" not in f"{client._config} {client}"


# ------------------------------------------------------------------------------------------ what is refused


@pytest.mark.parametrize(
    "options",
    [
        {"proxy": "http://127.0.0.1:9"},
        {"proxies_from_environment": True},
        {"unix_socket": "/run/socket"},
        {"resolver": Names()},
        {"pinned_addresses": {"a.example": "127.0.0.1"}},
        {"name_cache_seconds": 1.0},
        {"local_address": "127.0.0.1"},
    ],
)
def test_a_dial_of_ones_own_takes_the_place_of_every_other_way(options: dict[str, Any]) -> None:
    (name,) = options
    with pytest.raises(ValueError, match=f"give dial or {name}, not both"):
        ClientConfig(dial=trio.open_tcp_stream, **options)


def test_settings_that_no_dial_could_use_are_refused_when_they_are_given() -> None:
    with pytest.raises(ValueError, match=r"local_address must be an IP address .* not 'eth0'"):
        ClientConfig(local_address="eth0")
    for name in ("dial", "resolver"):
        with pytest.raises(TypeError, match=name):
            ClientConfig(**{name: "8.8.8.8"})
    with pytest.raises(ValueError, match=r"pinned addresses of 'a\.example'"):
        Client(pinned_addresses={"a.example": "b.example"})
    with pytest.raises(ValueError, match="proxy or proxies_from_environment"):
        ClientConfig(proxy="http://127.0.0.1:9", proxies_from_environment=True)
