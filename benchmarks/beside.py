"""What nobody else has: each claim about our server, looked at beside hypercorn on trio, uvicorn and granian.

One row for each claim, one cell for each server. "yes" and "no" are what was seen just now; "-" is for a
server that has no way to do it, with the place in its source that shows it, and such a server is not run for
that claim. What a peer does is a figure and never a failure: the exit status is 1 when a claim does not hold
of ours. All of it is on the loopback interface, each server in a process of its own, and takes under three
minutes.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path

FOLDER = Path(__file__).resolve().parent / "beside"
sys.path.insert(0, str(FOLDER))

import _faults  # noqa: E402 - the line above is what makes these found
import _leaving  # noqa: E402
import _protocol  # noqa: E402
import _slow  # noqa: E402
import _sockets  # noqa: E402
import _stopping  # noqa: E402
import trio  # noqa: E402
from _claims import Cell, Claim, Run, Table  # noqa: E402
from _contender import HOST, OURS, PEERS, Contender, harness, running  # noqa: E402

CLAIMS: Sequence[Claim] = [
    *_stopping.CLAIMS,
    *_leaving.CLAIMS,
    *_slow.CLAIMS,
    *_faults.CLAIMS,
    *_protocol.CLAIMS,
    *_sockets.CLAIMS,
]

SECONDS = 150.0
"""How long one claim about one server may take; the longest waits for a limit of a minute, twice."""

AT_ONCE = 12
"""How many claims are looked at together. Most of them wait most of the time."""

Found = dict[tuple[str, str], Cell | str]


async def look(claim: Claim, run: Run, name: str, found: Found) -> None:
    """Find out about one claim and one server, whatever happens."""
    begin = time.monotonic()
    try:
        with trio.fail_after(SECONDS):
            found[claim.text, name] = await claim.measure(run, name)
    except Exception as exc:  # noqa: BLE001 - it is a cell of the table, not the end of the run
        while isinstance(exc, ExceptionGroup) and len(exc.exceptions) == 1:
            exc = exc.exceptions[0]
        found[claim.text, name] = harness.describe(exc)
    harness.progress(f"{time.monotonic() - begin:5.1f} s  {name}: {claim.text}")


async def look_at_all(claims: Sequence[Claim], run: Run, found: Found) -> None:
    """Find out about all claims and servers: the long ones beside the others, delays one after another."""
    limiter = trio.CapacityLimiter(AT_ONCE)

    async def limited(claim: Claim, name: str) -> None:
        async with limiter:
            await look(claim, run, name, found)

    def turn(which: str) -> list[tuple[Claim, str]]:
        return [
            (claim, name)
            for claim in claims
            if claim.turn == which
            for name in run.shared
            if name not in claim.without
        ]

    async with trio.open_nursery() as nursery:
        for claim, name in turn("long"):
            nursery.start_soon(look, claim, run, name, found)
        async with trio.open_nursery() as beside:
            for claim, name in turn("beside"):
                beside.start_soon(limited, claim, name)
        for claim, name in turn("alone"):
            await look(claim, run, name, found)


def make_certificates(folder: str) -> tuple[tuple[str, str], tuple[str, str], str]:
    """Write two certificates for `HOST`, with their keys, and the one of their issuer; return the files."""
    import trustme

    issuer = trustme.CA()
    pairs = []
    for number in (1, 2):
        certificate = issuer.issue_cert(HOST)
        files = (f"{folder}/certificate-{number}.pem", f"{folder}/key-{number}.pem")
        for part, blob in enumerate(certificate.cert_chain_pems):
            blob.write_to_path(files[0], append=part > 0)
        certificate.private_key_pem.write_to_path(files[1])
        pairs.append(files)
    trust = f"{folder}/issuer.pem"
    issuer.cert_pem.write_to_path(trust)
    return pairs[0], pairs[1], trust


async def main() -> int:
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").partition("\n")[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--quick", action="store_true", help="shorter waits, to see that it runs")
    parser.add_argument("--server", default=",".join((OURS, *PEERS)), help="comma-separated")
    parser.add_argument(
        "--only", default="", help="comma-separated parts of the claims to look at, or of their rows"
    )
    given = parser.parse_args()
    servers = given.server.split(",")
    if unknown := set(servers) - {OURS, *PEERS}:
        parser.error(f"no such server: {', '.join(unknown)}")
    claims = [claim for claim in CLAIMS if harness.chosen(given.only, f"{claim.text} {claim.rows}")]
    if not Path("/proc/net/tcp").exists():  # noqa: ASYNC240 - nothing else runs yet
        parser.error("this reads Linux's /proc, and this system has none")
    print(harness.versions("trio", *(name for name in servers if name != OURS)), end="\n\n", flush=True)
    begin = time.monotonic()
    found: Found = {}
    shared: dict[str, Contender] = {}
    absent: dict[str, str] = {}
    async with AsyncExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        for name in servers:
            try:
                shared[name] = await stack.enter_async_context(running(name))
            except harness.Absent as exc:
                absent[name] = str(exc)
        await look_at_all(claims, Run(given.quick, shared, make_certificates(folder)), found)
    harness.progress("")
    print(Table(servers, absent).render(claims, found))
    print(f"\n{time.monotonic() - begin:.0f} s")
    return judge(claims, found) if OURS in shared else 1


def judge(claims: Sequence[Claim], found: Found) -> int:
    """Print what does not hold of ours; return the exit status."""
    broken = []
    for claim in claims:
        cell = found[claim.text, OURS]
        if isinstance(cell, str) or not cell.holds:
            broken.append(f"- DOES NOT HOLD: {claim.text}: {cell if isinstance(cell, str) else cell.text}")
    print("\n".join(broken) if broken else f"\nall {len(claims)} claims hold of {OURS}")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(trio.run(main))
