"""C18, C19: through real proxies: tinyproxy, Squid and microsocks, over TCP and TLS."""

from __future__ import annotations

import ast
import functools
import socket
import ssl
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from urllib.parse import quote

import attrs
import pytest
import trio
import trustme

import trio_http
from tests.interop.behind import MEBIBYTE, PIECE, app, pieces, start
from tests.interop.forward_proxies import (
    MICROSOCKS,
    PASSWORD,
    SQUID,
    TINYPROXY,
    USER,
    free_port,
    microsocks,
    squid,
    tinyproxy,
)
from tests.interop.programs import SECONDS
from trio_http.client._socks import SOCKSRefused
from trio_http.client._tunnel import ProxyRefused

pytestmark = pytest.mark.interop

Program = Callable[[str], str]
Run = Callable[..., AbstractAsyncContextManager[int]]

AUTHORIZED = f"{USER}:{quote(PASSWORD, safe='')}@"
WRONG = f"{USER}:wrong@"


@attrs.frozen
class Kind:
    """One HTTP proxy: how it is run, and where it goes out from."""

    run: Run
    address: str
    authenticated: Run
    refusing: Run


@pytest.fixture(params=["tinyproxy", "squid"])
def http_proxy(request: pytest.FixtureRequest, program: Program, tmp_path: Path) -> Kind:
    path = program(request.param)
    if request.param == "squid":
        run = functools.partial(squid, path)
        refusing = functools.partial(run, options="acl tunnel method CONNECT\nhttp_access deny tunnel")
        return Kind(run, SQUID, functools.partial(run, authenticated=True), refusing)
    run = functools.partial(tinyproxy, path, tmp_path)
    # Its file has no way to quote a blank, so the password is one that needs none.
    authenticated = functools.partial(run, options=f"BasicAuth {USER} {TINY_PASSWORD}")
    return Kind(run, TINYPROXY, authenticated, functools.partial(run, options="ConnectPort 1"))


TINY_PASSWORD = "password"


def authorized(kind: Kind) -> str:
    return AUTHORIZED if kind.address == SQUID else f"{USER}:{TINY_PASSWORD}@"


@pytest.fixture
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def trusting(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


async def start_tls(nursery: trio.Nursery, authority: trustme.CA) -> int:
    """Serve over TLS as 127.0.0.1 and localhost, and return the port."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1", "localhost").configure_cert(context)
    server = await nursery.start(trio_http.serve_ssl_over_tcp, app, 0, context)
    return int(server.listeners[0].socket.getsockname()[1])


def peer_of(response: trio_http.Response) -> tuple[str, int]:
    """The address and port from which the origin was asked."""
    address, port, *_ = ast.literal_eval(response.headers["x-peer"])
    return address, port


# -------------------------------------------------------------------------------------- plain http, forwarded


async def test_a_plain_request_is_forwarded(http_proxy: Kind, nursery: trio.Nursery) -> None:
    port = await start(nursery)
    async with http_proxy.run() as proxy, trio_http.Client(proxy=f"http://127.0.0.1:{proxy}") as client:
        with trio.fail_after(SECONDS):
            for _ in range(2):
                response = await client.get(f"http://127.0.0.1:{port}/counted")
                assert (response.status, response.text) == (200, "counted\n")
                assert peer_of(response)[0] == http_proxy.address
                assert "via" in response.headers


async def test_content_is_forwarded_both_ways(http_proxy: Kind, nursery: trio.Nursery) -> None:
    port = await start(nursery)
    async with http_proxy.run() as proxy, trio_http.Client(proxy=f"http://127.0.0.1:{proxy}") as client:
        with trio.fail_after(SECONDS):
            whole = await client.post(f"http://127.0.0.1:{port}/echo", content=PIECE * 2)
            assert whole.content == PIECE * 2
            async with client.stream("GET", f"http://127.0.0.1:{port}/streamed?3") as response:
                assert await response.read() == PIECE * 3
            if http_proxy.address == SQUID:  # tinyproxy does not know the chunked coding in requests
                chunked = await client.post(f"http://127.0.0.1:{port}/echo", content=pieces(3))
                assert len(chunked.content) == 3 * MEBIBYTE


async def test_a_forwarding_proxy_is_told_who_we_are(http_proxy: Kind, nursery: trio.Nursery) -> None:
    port = await start(nursery)
    url = f"http://127.0.0.1:{port}/counted"
    async with http_proxy.authenticated() as proxy:
        with trio.fail_after(SECONDS):
            async with trio_http.Client(proxy=f"http://{authorized(http_proxy)}127.0.0.1:{proxy}") as client:
                response = await client.get(url)
                assert (response.status, peer_of(response)[0]) == (200, http_proxy.address)
            for userinfo in ("", WRONG):
                async with trio_http.Client(proxy=f"http://{userinfo}127.0.0.1:{proxy}") as client:
                    refusal = await client.get(url)
                    assert refusal.status in (401, 407)  # 401 is tinyproxy's word for wrong credentials
                    assert "x-peer" not in refusal.headers


# ------------------------------------------------------------------------------------------- https, tunnelled


async def test_https_goes_through_a_tunnel_that_is_kept(
    http_proxy: Kind, nursery: trio.Nursery, authority: trustme.CA, trusting: ssl.SSLContext
) -> None:
    port = await start_tls(nursery, authority)
    async with http_proxy.run() as proxy:
        url = f"http://127.0.0.1:{proxy}"
        async with trio_http.Client(proxy=url, ssl_context=trusting) as client:
            with trio.fail_after(SECONDS):
                peers = set()
                for _ in range(3):
                    response = await client.get(f"https://127.0.0.1:{port}/counted")
                    assert (response.status, response.text) == (200, "counted\n")
                    assert "via" not in response.headers
                    peers.add(peer_of(response))
                response = await client.post(f"https://127.0.0.1:{port}/echo", content=pieces(3))
                assert response.content == PIECE * 3
                peers.add(peer_of(response))
    assert [address for address, _ in peers] == [http_proxy.address]  # one connection for all four


async def test_a_tunnel_leads_to_the_origin_whose_certificate_is_verified(
    http_proxy: Kind, nursery: trio.Nursery, authority: trustme.CA
) -> None:
    port = await start_tls(nursery, authority)
    async with http_proxy.run() as proxy, trio_http.Client(proxy=f"http://127.0.0.1:{proxy}") as client:
        with trio.fail_after(SECONDS), pytest.raises(trio_http.ConnectFailed) as caught:
            await client.get(f"https://127.0.0.1:{port}/counted")
    assert "certificate" in str(caught.value).lower()


async def test_a_tunnel_is_opened_to_those_whom_the_proxy_knows(
    http_proxy: Kind, nursery: trio.Nursery, authority: trustme.CA, trusting: ssl.SSLContext
) -> None:
    port = await start_tls(nursery, authority)
    url = f"https://127.0.0.1:{port}/counted"
    async with http_proxy.authenticated() as proxy:
        with trio.fail_after(SECONDS):
            known = trio_http.Proxy.from_url(f"http://{authorized(http_proxy)}127.0.0.1:{proxy}")
            async with trio_http.Client(proxy=known, ssl_context=trusting) as client:
                response = await client.get(url)
                assert (response.status, peer_of(response)[0]) == (200, http_proxy.address)
            for userinfo in ("", WRONG):
                unknown = f"http://{userinfo}127.0.0.1:{proxy}"
                async with trio_http.Client(proxy=unknown, ssl_context=trusting) as client:
                    with pytest.raises(trio_http.ConnectFailed) as caught:
                        await client.get(url)
                refusal = caught.value.__cause__
                assert isinstance(refusal, ProxyRefused)
                assert refusal.status in (401, 407)
                assert refusal.authorized == bool(userinfo)
                assert "wrong" not in str(caught.value)


async def test_a_tunnel_that_the_proxy_does_not_allow_is_refused(
    http_proxy: Kind, nursery: trio.Nursery, authority: trustme.CA, trusting: ssl.SSLContext
) -> None:
    port = await start_tls(nursery, authority)
    async with http_proxy.refusing() as proxy:
        url = f"http://127.0.0.1:{proxy}"
        async with trio_http.Client(proxy=url, ssl_context=trusting) as client:
            with trio.fail_after(SECONDS), pytest.raises(trio_http.ConnectFailed) as caught:
                await client.get(f"https://127.0.0.1:{port}/counted")
    refusal = caught.value.__cause__
    assert isinstance(refusal, ProxyRefused)
    assert refusal.status == 403
    assert b"<html" in refusal.content.lower()
    assert caught.value.facts.bytes_sent == 0


async def test_a_tunnel_to_a_port_where_nobody_listens_is_refused_with_a_5xx(http_proxy: Kind) -> None:
    async with http_proxy.run() as proxy, trio_http.Client(proxy=f"http://127.0.0.1:{proxy}") as client:
        with trio.fail_after(SECONDS), pytest.raises(trio_http.ConnectFailed) as caught:
            await client.get(f"https://127.0.0.1:{free_port()}/")
    refusal = caught.value.__cause__
    assert isinstance(refusal, ProxyRefused)
    assert refusal.status in (500, 502, 503)


# ------------------------------------------------------------------------------------------ a proxy under TLS


async def test_a_proxy_under_tls_forwards_and_tunnels(
    program: Program, nursery: trio.Nursery, authority: trustme.CA, trusting: ssl.SSLContext
) -> None:
    plain, secure = await start(nursery), await start_tls(nursery, authority)
    proxies = trustme.CA()  # another than the origin's, so that neither context can stand for the other
    trusting_proxies = ssl.create_default_context()
    proxies.configure_trust(trusting_proxies)
    async with squid(program("squid"), certificate=proxies.issue_cert("127.0.0.1")) as port:
        proxy = trio_http.Proxy.from_url(f"https://127.0.0.1:{port}", ssl_context=trusting_proxies)
        async with trio_http.Client(proxy=proxy, ssl_context=trusting) as client:
            with trio.fail_after(SECONDS):
                response = await client.get(f"http://127.0.0.1:{plain}/counted")
                assert (response.text, peer_of(response)[0]) == ("counted\n", SQUID)
                tunnelled = [
                    await client.post(f"https://127.0.0.1:{secure}/echo", content=pieces(3)) for _ in range(2)
                ]
                assert [response.content for response in tunnelled] == [PIECE * 3] * 2
                assert {peer_of(response)[0] for response in tunnelled} == {SQUID}
                assert len({peer_of(response) for response in tunnelled}) == 1


async def test_a_proxy_under_tls_is_verified(program: Program, nursery: trio.Nursery) -> None:
    origin = await start(nursery)
    authority = trustme.CA()
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    async with squid(program("squid"), certificate=authority.issue_cert("elsewhere.example")) as port:
        for context in (
            None,
            trusting,
        ):  # an authority that is not known, and then a name that is not its own
            proxy = trio_http.Proxy.from_url(f"https://127.0.0.1:{port}", ssl_context=context)
            # The client's own context is for origins.
            async with trio_http.Client(proxy=proxy, ssl_context=trusting) as client:
                with trio.fail_after(SECONDS), pytest.raises(trio_http.ConnectFailed) as caught:
                    await client.get(f"http://127.0.0.1:{origin}/counted")
            assert "certificate" in str(caught.value).lower()


# ---------------------------------------------------------------------------------------------------- SOCKS 5


@pytest.mark.parametrize("scheme", ["socks5", "socks5h"])
async def test_socks_carries_http_and_https_and_is_kept(
    scheme: str, program: Program, nursery: trio.Nursery, authority: trustme.CA, trusting: ssl.SSLContext
) -> None:
    plain, secure = await start(nursery), await start_tls(nursery, authority)
    async with microsocks(program("microsocks")) as port:
        url = f"{scheme}://127.0.0.1:{port}"
        async with trio_http.Client(proxy=url, ssl_context=trusting) as client:
            with trio.fail_after(SECONDS):
                for origin in (f"http://127.0.0.1:{plain}", f"https://127.0.0.1:{secure}"):
                    responses = [
                        await client.post(f"{origin}/echo", content=pieces(3)),
                        await client.get(f"{origin}/counted"),
                    ]
                    assert [len(response.content) for response in responses] == [3 * MEBIBYTE, 8]
                    assert {peer_of(response)[0] for response in responses} == {MICROSOCKS}
                    assert len({peer_of(response) for response in responses}) == 1


@pytest.mark.parametrize("scheme", ["socks5", "socks5h"])
async def test_a_name_is_looked_up_by_us_or_by_the_proxy(
    scheme: str, program: Program, nursery: trio.Nursery
) -> None:
    # Where localhost leads first, as the proxy tries no second address.
    host = socket.getaddrinfo("localhost", None)[0][4][0]
    server = await nursery.start(functools.partial(trio_http.serve_tcp, host=host), app, 0)
    port = server.listeners[0].socket.getsockname()[1]
    async with (
        microsocks(program("microsocks"), bound=False) as proxy,
        trio_http.Client(proxy=f"{scheme}://127.0.0.1:{proxy}") as client,
    ):
        with trio.fail_after(SECONDS):
            response = await client.get(f"http://localhost:{port}/counted")
            assert response.text == "counted\n"
            with pytest.raises(trio_http.ConnectFailed) as caught:
                await client.get("http://no-such-host.invalid/")
    cause = caught.value.__cause__
    if scheme == "socks5":
        assert isinstance(cause, socket.gaierror)
    else:
        assert isinstance(cause, SOCKSRefused)
        assert cause.code is not None


async def test_socks_lets_in_whom_it_knows(program: Program, nursery: trio.Nursery) -> None:
    origin = await start(nursery)
    async with microsocks(program("microsocks"), authenticated=True) as port:
        with trio.fail_after(SECONDS):
            async with trio_http.Client(proxy=f"socks5h://{AUTHORIZED}127.0.0.1:{port}") as client:
                response = await client.get(f"http://127.0.0.1:{origin}/counted")
                assert (response.status, peer_of(response)[0]) == (200, MICROSOCKS)
            for userinfo in ("", WRONG):
                async with trio_http.Client(proxy=f"socks5h://{userinfo}127.0.0.1:{port}") as client:
                    with pytest.raises(trio_http.ConnectFailed) as caught:
                        await client.get(f"http://127.0.0.1:{origin}/counted")
                refusal = caught.value.__cause__
                assert isinstance(refusal, SOCKSRefused)
                assert refusal.code is None


async def test_socks_to_a_port_where_nobody_listens_is_refused_with_the_reason(program: Program) -> None:
    async with (
        microsocks(program("microsocks")) as port,
        trio_http.Client(proxy=f"socks5://127.0.0.1:{port}") as client,
    ):
        with trio.fail_after(SECONDS), pytest.raises(trio_http.ConnectFailed) as caught:
            await client.get(f"http://127.0.0.1:{free_port()}/")
    refusal = caught.value.__cause__
    assert isinstance(refusal, SOCKSRefused)
    assert (refusal.code, "connection refused" in str(refusal)) == (5, True)


# ------------------------------------------------------------------------------------------------- the choice


async def test_the_environment_chooses_when_it_is_asked(
    program: Program, tmp_path: Path, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    first, second = await start(nursery), await start(nursery)
    async with tinyproxy(program("tinyproxy"), tmp_path) as port:
        monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{port}")
        monkeypatch.setenv("no_proxy", f"127.0.0.1:{second}")
        with trio.fail_after(SECONDS):
            async with trio_http.Client(proxies_from_environment=True) as client:
                response = await client.get(f"http://127.0.0.1:{first}/counted")
                assert peer_of(response)[0] == TINYPROXY
                response = await client.get(f"http://127.0.0.1:{second}/counted")
                assert peer_of(response)[0] == "127.0.0.1"
            async with trio_http.Client() as client:
                response = await client.get(f"http://127.0.0.1:{first}/counted")
                assert peer_of(response)[0] == "127.0.0.1"


async def test_a_function_chooses_by_the_origin(
    program: Program, tmp_path: Path, nursery: trio.Nursery
) -> None:
    first, second = await start(nursery), await start(nursery)
    async with tinyproxy(program("tinyproxy"), tmp_path) as http, microsocks(program("microsocks")) as socks:
        proxies = {
            first: trio_http.Proxy.from_url(f"http://127.0.0.1:{http}"),
            second: trio_http.Proxy.from_url(f"socks5://127.0.0.1:{socks}"),
        }
        async with trio_http.Client(proxy=lambda origin: proxies.get(origin.port)) as client:
            with trio.fail_after(SECONDS):
                for port, address in ((first, TINYPROXY), (second, MICROSOCKS)):
                    response = await client.get(f"http://127.0.0.1:{port}/counted")
                    assert peer_of(response)[0] == address


@pytest.mark.parametrize("scheme", ["http", "https", "socks5", "socks5h"])
async def test_a_proxy_that_does_not_listen_is_not_passed_by(scheme: str, nursery: trio.Nursery) -> None:
    origin = await start(nursery)
    async with trio_http.Client(proxy=f"{scheme}://127.0.0.1:{free_port()}") as client:
        with trio.fail_after(SECONDS), pytest.raises(trio_http.ConnectFailed) as caught:
            await client.get(f"http://127.0.0.1:{origin}/counted")
    assert isinstance(caught.value.__cause__, OSError)
