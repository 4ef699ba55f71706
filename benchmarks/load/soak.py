"""Ten minutes of our client against our server over real sockets: TCP, TLS, Unix, and bad networks between.

150 tasks share a few clients, each with a pool smaller than they are many, and ask four servers, two of them
also through proxies that delay, split, stall, reset and end what they pass on (`_chaos.py`). Requests come in
twenty manners (`_soak_requests.py`, `_soak_app.py`): content that is streamed both ways, early refusals,
redirects, codings, trailers, interim responses, upgrades, downloads that go on where they were cut, retries,
hedges. One in ten has a short deadline, one more task cancels requests at random moments,
clients are closed while requests are under way, and servers are drained and started anew.

Each request has a number, and everything in its answer follows from it: what comes must be right to the last
byte. A request that fails needs an excuse of the soak's own making: it was cancelled, its client was closed,
its server was away, a bad network lay between, or its handler failed on purpose.

The run is made of rounds. At the end of each, every pool must be able to lend all its connections at once;
then the clients are closed, and nothing may be left: no task, no descriptor, no connection or request at a
server, and at the end no more memory than in the middle, but for a stated slack.
"""

from __future__ import annotations

import argparse
import collections
import os
import random
import shutil
import sys
import tempfile
import traceback
from pathlib import Path
from typing import NoReturn

import _load  # first of all: it finds the checkout, and the harness
import trio
from _pieces import object_slack
from _soak_facts import PLANTS, Facts, Troubles
from _soak_round import GOOD, Soak, look
from _soak_world import ROUTES, Left, Remote, Settings, World, free_ports

harness = _load.harness

TASKS = 150

MOST_FINDINGS = 10
"""So many end the run after their round."""

WARM_UP_SECONDS = 2.0
"""Of each of two rounds before anything is compared, so that what is made once is made."""

MEMORY_SLACK = 16 << 20
"""Bytes, from the middle of the run to its end. The allocator's own moods come to some MiB with so many
contents of up to 600 kB.
"""


ENDS = ("client closed", "server restarted", "broken by chaos", "deadline", "cancelled", "wrong")
COLUMNS = ["requests", "right", *ENDS]

CLAIMS = {
    "answer": "no answer to another request, none in part",
    "failure": "no request fails without an excuse",
    "slow": "no request on a direct route goes without an answer",
    "hang": "no request outlives its deadline",
    "request": "no handler meets a request that nobody has sent",
    "commit": "no work that must not be cut short is",
    "pool": "no connection is in use, dialed or waited for between requests",
    "ledger": "the books of all pools are true",
    "capacity": "every pool can lend all its connections at once",
    "server": "no server has a connection or request left",
    "shutdown": "every shutdown is over with its grace",
    "task": "no task is left",
    "descriptor": "no descriptor is left open",
    "logged": "nothing unexpected is logged",
    "unraisable": "no exception is raised where nobody can catch it",
    "warned": "no warning, of a resource or otherwise",
}
"""What is claimed, by the sort of finding that refutes it."""


def make_certificates(folder: Path) -> None:
    """Write "ca.pem" and "cert.pem", for 127.0.0.1.

    Raises:
      Absent: trustme is not installed.
    """
    try:
        import trustme
    except ImportError as exc:
        raise harness.Absent(f"the soak makes its certificates by trustme: {exc}") from exc
    authority = trustme.CA()
    authority.cert_pem.write_to_path(folder / "ca.pem")
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(folder / "cert.pem")


def urls_of(ports: dict[str, int]) -> dict[str, str]:
    """Return the URL of each route."""
    urls = {}
    for route in ROUTES:
        scheme = "https" if route.endswith("tls") else "http"
        urls[route] = "http://unix.test" if route == "unix" else f"{scheme}://127.0.0.1:{ports[route]}"
    return urls


async def run(options: argparse.Namespace, folder: Path, troubles: Troubles, report: _load.Report) -> None:
    """Make all rounds, and put what was found into `report`."""
    ports = free_ports(tuple(name for name in ROUTES if name != "unix"), options.seed)
    settings = Settings(options.seed, str(folder), ports, options.plant)
    world = Remote(settings) if options.two_processes else World(settings, troubles)
    held: list[tuple[Facts, Left]] = []

    def on_hang(text: str) -> NoReturn:
        soak.findings.add("hang", text)
        tell(report, soak, held)
        claim(report, soak, held, troubles, remote=options.two_processes)
        report.close()
        sys.stdout.flush()
        shutil.rmtree(folder)
        os._exit(1)  # what hangs would keep everything else from ending

    soak = Soak(
        world,
        urls_of(ports),
        folder,
        settings.socket_path,
        options.seed,
        tasks=options.tasks,
        longest=options.longest,
        patience=options.patience,
        planted=options.plant,
        on_hang=on_hang,
    )
    async with trio.open_nursery() as nursery:
        await nursery.start(world.run)
        await soak.round(min(WARM_UP_SECONDS, options.every), "warm-up")
        held.append(await soak.round(min(WARM_UP_SECONDS, options.every), "warm-up"))
        begin, warm = trio.current_time(), soak.requests
        while (elapsed := trio.current_time() - begin) < options.seconds:
            label = f"{elapsed:.0f} of {options.seconds:.0f} s"
            held.append(await soak.round(min(options.every, options.seconds - elapsed), label))
            look(soak.findings, held[0], held[-1], remote=options.two_processes)
            if soak.findings.total >= MOST_FINDINGS:
                break
        elapsed = trio.current_time() - begin
        report.remarks.append(
            f"{(soak.requests - warm) / elapsed:,.0f} requests/s for {elapsed:.0f} s, in {len(held) - 1}"
            f" rounds; {soak.clients:,} clients were opened, {soak.restarts} servers drained"
        )
        nursery.cancel_scope.cancel()
    tell(report, soak, held)
    claim(report, soak, held, troubles, remote=options.two_processes)


def tell(report: _load.Report, soak: Soak, held: list[tuple[Facts, Left]]) -> None:
    """Put the figures into the report."""
    everywhere: collections.Counter[str] = collections.Counter()
    for counts in soak.outcomes.values():
        everywhere.update(counts)
    for name, counts in (*soak.outcomes.items(), ("all", everywhere)):
        right = sum(counts[end] for end in GOOD)
        report.rows[name] = [f"{counts.total():,}", f"{right:,}", *(f"{counts[end]:,}" for end in ENDS)]
    _remark(report, "by kind", soak.kinds)
    if held:
        _remark(report, "connections through bad networks", collections.Counter(held[-1][1].weather))


def _remark(report: _load.Report, what: str, counts: collections.Counter[str]) -> None:
    report.remarks.append(
        f"{what}: " + ", ".join(f"{name} {count:,}" for name, count in counts.most_common())
    )


def claim(
    report: _load.Report,
    soak: Soak,
    held: list[tuple[Facts, Left]],
    troubles: Troubles,
    *,
    remote: bool,
) -> None:
    """Put what must hold into the report, and whether it does."""
    findings = soak.findings
    told = [troubles.as_dict()]
    if remote and held:
        told.append(held[-1][1].troubles)
    for lines in told:
        for sort, texts in lines.items():
            for text in texts:
                findings.add(sort, text)
    for sort, lines in findings.lines.items():
        report.remarks += [f"{sort}: {line}" for line in lines]
    for sort, text in CLAIMS.items():
        report.claim(text, not findings.of(sort))
    if not held:
        return
    series = {"clients" if remote else "process": [own for own, _ in held]}
    if remote:
        series["servers"] = [Facts(**left.facts) for _, left in held]
    for whose, facts in series.items():
        first, middle, last = facts[0], facts[(len(facts) - 1) // 2], facts[-1]
        figures = " / ".join(_load.mebibytes(each.rss) for each in (first, middle, last))
        report.claim(
            f"memory of the {whose} at 0 / 50 / 100 %: {figures}", last.rss - middle.rss <= MEMORY_SLACK
        )
        grown, most = last.objects - middle.objects, object_slack(soak.requests)
        report.claim(f"objects of the {whose} from 50 to 100 %: {grown:+,}, slack {most:,}", grown <= most)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").partition("\n")[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--quick", action="store_true", help="tiny sizes, to see that it runs")
    parser.add_argument("--seed", type=int, help="of all random choices; by default a new one each run")
    parser.add_argument("--seconds", type=float, default=600.0, help="how long, besides a warm-up")
    parser.add_argument("--every", type=float, default=20.0, help="seconds of a round")
    parser.add_argument("--tasks", type=int, default=TASKS, help="how many ask at once")
    parser.add_argument(
        "--longest", type=float, default=20.0, help="seconds within which a direct route must answer"
    )
    parser.add_argument(
        "--patience", type=float, default=20.0, help="seconds beyond its deadline after which a request hangs"
    )
    parser.add_argument("--two-processes", action="store_true", help="the servers in a process of their own")
    parser.add_argument(
        "--plant",
        default="",
        help=f"comma-separated defects, to see that they are found: {', '.join(PLANTS)}",
    )
    options = parser.parse_args()
    if not Path("/proc/self/statm").exists():
        parser.error("the load scripts read Linux's /proc, and this system has none")
    options.plant = [name for name in options.plant.split(",") if name]
    if unknown := set(options.plant) - set(PLANTS):
        parser.error(f"no such defect: {', '.join(unknown)}")
    if options.quick:
        options.seconds, options.every, options.tasks = min(options.seconds, 3.0), 1.0, min(options.tasks, 60)
    if options.seed is None:
        options.seed = random.SystemRandom().randrange(1 << 32)
    print(harness.versions("trio", "trio-http"))
    print("clients and servers in two processes" if options.two_processes else "all in one process")
    print(f"seed {options.seed}\n", flush=True)
    _load.raise_descriptor_limit()
    troubles = Troubles()
    troubles.install()
    report = _load.Report(f"{options.seconds:.0f} s of {options.tasks} tasks", COLUMNS, quick=options.quick)
    with tempfile.TemporaryDirectory() as folder:
        try:
            make_certificates(Path(folder))
            trio.run(run, options, Path(folder), troubles, report)
        except Exception as exc:  # noqa: BLE001 - a failure is a row of the table
            traceback.print_exc()  # with the group's members, which a line of the table cannot hold
            report.notes["ours"] = harness.describe(exc)
    return report.close()


if __name__ == "__main__":
    sys.exit(main())
