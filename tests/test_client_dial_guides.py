"""The guides to TLS and to proxies of a client: each of their programs is run against servers of the test."""

from __future__ import annotations

import ssl
import textwrap
from pathlib import Path
from typing import Any

import pytest
import trio

import trio_http
from tests.client._loopback import AUTHORITY, head_from, listening, origin, serving
from tests.test_docs import ROOT, blocks

pytestmark = pytest.mark.interop

TLS = blocks((ROOT / "docs/how-to/client-tls.md").read_text("utf-8"), "python")
PROXIES = blocks((ROOT / "docs/how-to/client-proxies.md").read_text("utf-8"), "python")


async def run(source: str, **given: Any) -> dict[str, Any]:
    """Run a snippet as the body of a function, and return what it leaves behind."""
    names: dict[str, Any] = {"ssl": ssl, "trio": trio, "trio_http": trio_http}
    body = textwrap.indent(source, "    ")
    head = f"async def snippet({', '.join(given)}):\n"
    exec(compile(f"{head}{body}    return locals()\n", "snippet", "exec"), names)
    left: dict[str, Any] = await names["snippet"](**given)
    return left


@pytest.mark.parametrize("number", range(4))
async def test_a_program_of_the_guide_to_tls_runs(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert len(TLS) == 4
    monkeypatch.chdir(tmp_path)
    AUTHORITY.cert_pem.write_to_path("ca.pem")
    AUTHORITY.issue_cert("me.example").private_key_and_cert_chain_pem.write_to_path("me.pem")
    context = serving()
    context.verify_mode = ssl.CERT_OPTIONAL
    AUTHORITY.configure_trust(context)
    async with origin(context) as port:
        source = TLS[number]
        given: dict[str, Any] = (
            {"port": port} if "{port}" in source else {"url": f"https://localhost:{port}/"}
        )
        left = await run(source, **given)
    if "pins" in left:
        assert "the server has shown" in capsys.readouterr().out
        return
    assert left["response"].status == 200
    assert left["response"].json()["names"] == (["me.example"] if "staff" in left else [])


@pytest.mark.parametrize("number", range(5))
async def test_a_program_of_the_guide_to_proxies_runs(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert len(PROXIES) == 5
    monkeypatch.chdir(tmp_path)
    AUTHORITY.cert_pem.write_to_path("proxy-ca.pem")
    source = PROXIES[number]
    under_tls = "https://localhost:3129" in source
    heads: list[bytes] = []

    async def answer(stream: trio.SocketStream) -> None:
        tls = trio.SSLStream(stream, serving(), server_side=True, https_compatible=True)
        end: trio.abc.Stream = tls if under_tls else stream
        while head := await head_from(end):
            heads.append(head)
            await end.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    async with listening(answer) as port:
        monkeypatch.setenv("http_proxy", f"http://localhost:{port}")
        for name in ("no_proxy", "NO_PROXY"):
            monkeypatch.delenv(name, raising=False)
        source = source.replace(":3128", f":{port}").replace(":3129", f":{port}")
        url = f"http://localhost:{port}/x" if "dial" in source else "http://origin.example/x"
        left = await run(source, url=url)
    assert left["response"].status == 200
    (head,) = heads
    if "dial" in source:
        assert head.startswith(b"PROXY UNKNOWN\r\nGET /x HTTP/1.1\r\n")
    else:
        assert head.startswith(b"GET http://origin.example/x HTTP/1.1\r\n")
    assert (b"Proxy-Authorization: Basic " in head) == (number in (0, 1))
    assert (b"X-Department: research\r\n" in head) == (number == 1)
    if "proxy_for" in left:
        assert left["proxy_for"](trio_http.Origin("http", "a.internal", 80)) is None
