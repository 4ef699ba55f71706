"""Claims about sockets and TLS: a certificate swapped under load, systemd's sockets, PROXY headers."""

from __future__ import annotations

import shutil
import socket
import ssl
import struct
import tempfile
import time
from pathlib import Path

import trio
from _claims import Cell, Claim, Run
from _contender import GRANIAN, HOST, HYPERCORN, OURS, UVICORN, running
from _raw import Raw, connect, get

ASKERS = 6
"""Clients that make a new connection for each request."""

KEPT = 4
"""Clients that keep theirs."""


class _Load:
    """Clients over TLS.

    Attributes:
      done: requests answered with a 200.
      failed: why others were not.
      seen: when each certificate was first seen, by its serial number.
      lost: kept connections that the server ended between requests.
    """

    def __init__(self, port: int, trust: str) -> None:
        self._port = port
        self._context = ssl.create_default_context(cafile=trust)
        self.done = 0
        self.failed: list[str] = []
        self.seen: dict[str, float] = {}
        self.lost = 0

    async def _connect(self) -> Raw:
        stream = await trio.open_tcp_stream(HOST, self._port)
        secure = trio.SSLStream(stream, self._context, server_hostname=HOST, https_compatible=True)
        await secure.do_handshake()
        self.seen.setdefault(secure.getpeercert()["serialNumber"], time.monotonic())
        return Raw(secure, stream.socket)

    async def _ask(self, raw: Raw, *fields: str) -> None:
        answer = await raw.ask(get("/hello", *fields))
        if answer.status != 200 or not answer.whole:
            raise ValueError(f"a {answer.status}")
        self.done += 1

    async def ask_anew(self) -> None:
        while True:
            try:
                with trio.fail_after(10):
                    raw = await self._connect()
                    await self._ask(raw, "Connection: close")
                raw.close()
            except Exception as exc:  # noqa: BLE001 - each is counted, and none ends the load
                self.failed.append(repr(exc))
            await trio.sleep(0.01)

    async def keep(self) -> None:
        raw = await self._connect()
        while True:
            await trio.sleep(0.05)
            if raw.ended() is not None:
                self.lost += 1
                return
            try:
                with trio.fail_after(10):
                    await self._ask(raw)
            except Exception as exc:  # noqa: BLE001 - as above
                self.failed.append(repr(exc))
                return


async def _swap(run: Run, name: str) -> Cell:
    """Swap the certificate in the middle of the load."""
    before, after, trust = run.certificates
    seconds = 0.7 if run.quick else 1.5
    with tempfile.TemporaryDirectory() as folder:
        # Copies, since where a swap is that of the files they change.
        files = [shutil.copy(file, Path(folder, Path(file).name)) for file in before]
        async with running(name, tls=(str(files[0]), str(files[1]))) as child, trio.open_nursery() as nursery:
            load = _Load(child.port, trust)
            for _ in range(ASKERS):
                nursery.start_soon(load.ask_anew)
            for _ in range(KEPT):
                nursery.start_soon(load.keep)
            await trio.sleep(seconds)
            asked = time.monotonic()
            child.command("swap", *after)
            with trio.move_on_after(8):
                while len(load.seen) < 2:  # noqa: ASYNC110 - it is seen by any of many
                    await trio.sleep(0.01)
            # Long enough for workers that are replaced to have gone: granian leaves them 3.5 s.
            await trio.sleep(5 if name == GRANIAN else seconds)
            nursery.cancel_scope.cancel()
    if len(load.seen) < 2:
        return Cell(False, "the new certificate was not seen in 8 s", _SWAPS.get(name, ""))
    delay = max(load.seen.values()) - asked
    text = f"{len(load.failed)} of {load.done + len(load.failed)} requests failed; new certificate seen after"
    text += f" {delay * 1000:.0f} ms; {KEPT - load.lost} of {KEPT} kept connections live on"
    return Cell(not load.failed and not load.lost, text, _SWAPS.get(name, ""))


_SWAPS = {
    HYPERCORN: (
        "no call for it; here the new chain was loaded into the context that an overridden"
        " `Config.create_ssl_context` has kept (hypercorn/config.py)"
    ),
    UVICORN: (
        "no call for it; here the new chain was loaded into the context that `ssl_context_factory` has kept"
        " (uvicorn/config.py)"
    ),
    GRANIAN: "new files under the same names, and a SIGHUP that replaces workers (granian/server/common.py)",
}


async def _by_name(run: Run, name: str) -> Cell:
    """Pass two sockets as systemd does, and have the second served, by its name."""
    with socket.create_server((HOST, 0)) as web, socket.create_server((HOST, 0)) as admin:
        ports = [sock.getsockname()[1] for sock in (web, admin)]
        async with running(OURS, passed=[("web", web), ("admin", admin)], systemd="admin"):
            raw = await connect(ports[1])
            answer = await raw.ask(get("/hello"))
            raw.close()
            raw = await connect(ports[0])
            with trio.move_on_after(0.3) as scope:
                await raw.ask(get("/hello"))
            raw.close()
    return Cell(
        answer.status == 200 and scope.cancelled_caught,
        f'"admin" of "web:admin" is served ({answer.status}), "web" is not',
    )


async def _proxied(run: Run, name: str) -> Cell:
    """Send PROXY headers of both versions, and none."""
    version_1 = b"PROXY TCP4 192.0.2.1 192.0.2.2 5000 80\r\n"
    addresses = socket.inet_aton("192.0.2.3") + socket.inet_aton("192.0.2.2") + struct.pack("!HH", 5001, 80)
    version_2 = b"\r\n\r\n\0\r\nQUIT\n" + struct.pack("!BBH", 0x21, 0x11, len(addresses)) + addresses
    said = []
    async with running(OURS, ours={"proxy_protocol_from": ["127.0.0.0/8"]}) as child:
        for header in (version_1, version_2):
            raw = await connect(child.port)
            answer = await raw.ask(header + get("/peer"))
            said.append(answer.content.decode())
            raw.close()
        raw = await connect(child.port)
        await raw.send(get("/peer"))
        how, _ = await raw.wait_ended(2)
        raw.close()
    return Cell(
        said == ["192.0.2.1 5000", "192.0.2.3 5001"] and how != "open",
        f"v1: {said[0]}, v2: {said[1]}; without a header: connection ended ({how})",
    )


_NO_NAMES = {
    HYPERCORN: "a descriptor by number (`fd://3`) only (hypercorn/config.py)",
    UVICORN: "a descriptor by number (`fd=3`) only (uvicorn/config.py)",
    GRANIAN: "an address and port, or a path, only (granian/server/common.py)",
}
_NO_PROXY = {
    HYPERCORN: "no such setting (hypercorn/config.py), and no other parser before h11 (hypercorn/protocol/)",
    UVICORN: "no such setting (uvicorn/config.py); its middleware reads fields only (uvicorn/middleware/)",
    GRANIAN: "no such setting (granian/server/common.py); wrappers read fields (granian/utils/proxies.py)",
}

CLAIMS = [
    Claim("a TLS certificate is swapped under load", "N20, S47", _swap, turn="alone"),
    Claim("systemd's sockets by name", "S43", _by_name, _NO_NAMES),
    Claim("PROXY protocol, versions 1 and 2", "S44", _proxied, _NO_PROXY),
]
