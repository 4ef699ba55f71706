"""Proxies that a client goes through, run on free ports of the loopback interface while a block runs.

Each leaves for the origin from an address of its own, by which an origin can tell that it was asked through
the proxy, and through which one.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import trio
import trustme

from tests.interop.programs import SECONDS, running

#: Where each goes out from. All of 127.0.0.0/8 is the loopback interface on Linux.
TINYPROXY = "127.0.0.2"
SQUID = "127.0.0.3"
MICROSOCKS = "127.0.0.4"

USER, PASSWORD = "user", "pass word:%"

TINYPROXY_CONFIGURATION = """
Port {port}
Listen 127.0.0.1
Bind {address}
Timeout 30
LogLevel Error
MaxClients 20
{options}
"""

# It must not go on as root, so its files are where anybody may read them.
SQUID_CONFIGURATION = """
{listen}
tcp_outgoing_address {address}
{user}
{options}
http_access allow all
cache deny all
access_log none
cache_log {folder}/cache.log
pid_filename none
coredump_dir {folder}
shutdown_lifetime 0 seconds
dns_nameservers 127.0.0.1
pinger_enable off
netdb_filename none
"""

SQUID_AUTHENTICATION = """
auth_param basic program {folder}/authenticate
auth_param basic children 1
auth_param basic realm squid
acl known proxy_auth REQUIRED
http_access deny !known
"""

# A helper of Squid's: it reads user name and password, in which blanks and % are percent-encoded, and says
# whether they will do.
SQUID_HELPER = """#!/bin/sh
while read -r line; do
    if [ "$line" = "user pass%20word:%25" ]; then echo OK; else echo ERR; fi
done
"""


def free_port() -> int:
    """A port that nobody listens on; another program may take it first, but hardly does."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


async def accepting(port: int, process: trio.Process) -> None:
    """Wait until somebody listens on ``port``.

    Raises:
      AssertionError: the program ended before.
      trio.TooSlowError: it took longer than `SECONDS`.
    """
    with trio.fail_after(SECONDS):
        while True:
            assert process.poll() is None, f"{process.args} ended with {process.returncode}"
            try:
                stream = await trio.open_tcp_stream("127.0.0.1", port)
            except OSError:
                await trio.sleep(0.02)  # there is nothing to wait for: only a connection tells
            else:
                await stream.aclose()
                return


@asynccontextmanager
async def tinyproxy(path: str, folder: Path, *, options: str = "") -> AsyncIterator[int]:
    """Run tinyproxy; the block gets its port.

    Args:
      path: where it is.
      folder: where its configuration goes.
      options: lines of configuration.
    """
    port = free_port()
    configuration = folder / "tinyproxy.conf"
    configuration.write_text(TINYPROXY_CONFIGURATION.format(port=port, address=TINYPROXY, options=options))
    argv = [path, "-d", "-c", str(configuration)]
    async with running(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        await accepting(port, process)
        yield port


async def _kill(process: trio.Process) -> None:
    process.kill()


@contextmanager
def _open_folder() -> Iterator[Path]:
    """A folder that any user may read, unlike those of the test run."""
    folder = Path(tempfile.mkdtemp(prefix="squid-"))
    try:
        folder.chmod(0o777)
        yield folder
    finally:
        shutil.rmtree(folder)


@asynccontextmanager
async def squid(
    path: str, *, certificate: trustme.LeafCert | None = None, authenticated: bool = False, options: str = ""
) -> AsyncIterator[int]:
    """Run Squid; the block gets its port.

    Args:
      path: where it is.
      certificate: speak TLS, with this.
      authenticated: let in only `USER` with `PASSWORD`.
      options: lines of configuration.
    """
    port = free_port()
    with _open_folder() as folder:
        listen = f"http_port 127.0.0.1:{port}"
        if certificate is not None:
            certificate.private_key_and_cert_chain_pem.write_to_path(folder / "key.pem")
            listen = f"https_port 127.0.0.1:{port} tls-cert={folder}/key.pem tls-key={folder}/key.pem"
        if authenticated:
            helper = folder / "authenticate"
            helper.write_text(SQUID_HELPER)
            helper.chmod(0o755)
            options = SQUID_AUTHENTICATION.format(folder=folder) + options
        configuration = folder / "squid.conf"
        configuration.write_text(
            SQUID_CONFIGURATION.format(
                listen=listen,
                address=SQUID,
                user="cache_effective_user nobody" if os.geteuid() == 0 else "",
                folder=folder,
                options=options,
            )
        )
        argv = [path, "-N", "-f", str(configuration)]
        silent: dict[str, object] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        # Killed at the end: a regular shutdown takes it two seconds, whatever is configured.
        async with running(argv, **silent, deliver_cancel=_kill) as process:
            await accepting(port, process)
            yield port


@asynccontextmanager
async def microsocks(path: str, *, authenticated: bool = False, bound: bool = True) -> AsyncIterator[int]:
    """Run microsocks; the block gets its port.

    Args:
      path: where it is.
      authenticated: let in only `USER` with `PASSWORD`.
      bound: go out from its own address, which is one of IPv4.
    """
    port = free_port()
    argv = [path, "-i", "127.0.0.1", "-p", str(port)]
    argv += ["-u", USER, "-P", PASSWORD] if authenticated else []
    argv += ["-b", MICROSOCKS] if bound else []
    async with running(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        await accepting(port, process)
        yield port
