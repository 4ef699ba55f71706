"""Claims about handlers that fail, deadlines that travel, and what can be seen of a live server."""

from __future__ import annotations

import time
from contextlib import AsyncExitStack

import trio
from _claims import Cell, Claim, Run
from _contender import GRANIAN, HYPERCORN, LOOK, OURS, UVICORN, Contender, new_key, running
from _raw import connect, get, post


async def _hello(port: int) -> bool:
    raw = await connect(port)
    answer = await raw.ask(get("/hello"))
    raw.close()
    return answer.status == 200


async def _logged(child: Contender, *texts: str) -> list[str]:
    """Wait up to two seconds until all of these are in the log; return those that are."""
    deadline = time.monotonic() + 2
    while True:
        log = child.log()
        found = [text for text in texts if text in log]
        if len(found) == len(texts) or time.monotonic() > deadline:
            return found
        await trio.sleep(LOOK)


async def _grouped(run: Run, name: str) -> Cell:
    """Fail with two errors at once."""
    child, key = run.shared[name], new_key()
    raw = await connect(child.port)
    answer = await raw.ask(get(f"/group/{key}"))
    raw.close()
    errors = [f"first {key}", f"second {key}"]
    logged = await _logged(child, *errors)
    lives = await _hello(child.port)
    text = (
        f"{answer.status}, {len(logged)} of 2 errors in the log, server {'goes on' if lives else 'is broken'}"
    )
    holds = answer.status == 500 and len(logged) == 2 and lives
    if name == OURS:
        await child.reported(key, "failed", seconds=2)  # told when the answer is out
        told = child.reports(key, "failed")
        whole = (
            len(told) == 1 and sorted(told[0]["errors"]) == errors and told[0]["target"] == f"/group/{key}"
        )
        text += f"; one hook gets both, with the request: {'yes' if whole else 'NO'}"
        holds = holds and whole
    return Cell(holds, text, _SHORTENED if name == GRANIAN and not logged else "")


_SHORTENED = "its log has the traceback of the group, which says that there are two errors, and not which"


async def _isolated(run: Run, name: str) -> Cell:
    """Fail beside an answer that is under way."""
    child, key = run.shared[name], new_key()
    other = await connect(child.port)
    await other.send(get("/drip/8"))
    await other.head()
    raw = await connect(child.port)
    answer = await raw.ask(get(f"/crash/{key}"))
    raw.close()
    logged = await _logged(child, f"crash {key}")
    rest = b""
    with trio.move_on_after(5):
        while not (other.take() + rest).endswith(b"0\r\n\r\n") and (data := await other.more()):
            rest += data
    other.close()
    unharmed = rest.endswith(b"0\r\n\r\n") and b"7\n" in rest
    return Cell(
        answer.status == 500 and bool(logged) and unharmed and await _hello(child.port),
        f"{answer.status}, {'logged' if logged else 'not logged'},"
        f" the other answer {'is whole' if unharmed else 'broke off'}",
    )


async def _deadline(run: Run, name: str) -> Cell:
    """Ask a chain of three servers for what takes a minute, with 600 ms left."""
    seconds = 0.6
    key = new_key()
    async with AsyncExitStack() as stack:
        config = {"deadlines_from": ["127.0.0.0/8"]}
        children = [await stack.enter_async_context(running(OURS, ours=config)) for _ in range(3)]
        first, second, third = (child.port for child in children)
        raw = await connect(first)
        begin = time.monotonic()
        fields = [f"Request-Deadline: {int(seconds * 1000)}"]
        answer = await raw.ask(get(f"/hop/{second}/{third}/{key}", *fields))
        took = time.monotonic() - begin
        ends, left = [], []
        for hop, child in zip((2, 1, 0), children, strict=True):
            end = await child.reported(f"{key}-{hop}", "cancelled", "finished", "disconnected", seconds=1)
            ends.append(None if end is None or end["report"] != "cancelled" else end["at"] - begin)
            left += [report["left"] for report in child.reports(f"{key}-{hop}", "hop")]
        raw.close()
    stopped = [end for end in ends if end is not None]
    knew = ", ".join(f"{1000 * each:.0f}" for each in left)
    last = max(stopped, default=0.0)
    holds = len(stopped) == 3 and len(left) == 3 and max(left) <= seconds and last < seconds + 0.25
    return Cell(
        holds and left == sorted(left, reverse=True),
        f"{len(stopped)} of 3 handlers cancelled, the last after {last * 1000:.0f} ms"
        f" (they knew of {knew} ms); {answer.status} after {took * 1000:.0f} ms",
    )


async def _snapshot(run: Run, name: str) -> Cell:
    """Look at a server with an idle connection, a handler at work, and an upload."""
    key = new_key()
    async with running(OURS, ours={"times": {"request": 30}}) as child:
        idle, working, uploading = [await connect(child.port) for _ in range(3)]
        await idle.ask(get("/hello"))
        await working.send(get(f"/sleep/9/{key}"))
        await uploading.send(post(f"/sink/{key}-up", 100) + b"some")
        await child.began(key)
        await child.began(f"{key}-up")
        await trio.sleep(0.1)
        child.command("snapshot")
        report = await child.reported("", "snapshot", seconds=5)
        for raw in (idle, working, uploading):
            raw.close()
    assert report is not None
    found = {each["state"]: each for each in report["connections"]}
    if set(found) != {"idle", "handling", "receiving"}:
        return Cell(False, f"states {sorted(found)}")
    handling, receiving = found["handling"], found["receiving"]
    holds = (
        handling["target"] == f"/sleep/9/{key}"
        and 0 < handling["deadlines"]["handler"] < 30 * 33 / 32  # rounded up to its next 32nd
        and 0 < receiving["deadlines"]["receive"] <= 60
        and found["idle"]["requests"] == 1
    )
    deadlines = ", ".join(f"{what} in {left:.1f} s" for what, left in receiving["deadlines"].items())
    return Cell(
        holds, f"{', '.join(sorted(found))}; targets, ages, speeds; deadlines of the upload: {deadlines}"
    )


_NO_DEADLINE = {
    HYPERCORN: "no time limit on a handler, from a field or elsewhere (hypercorn/config.py)",
    UVICORN: "no time limit on a handler, from a field or elsewhere (uvicorn/config.py)",
    GRANIAN: "no time limit on a handler, from a field or elsewhere (granian/server/common.py)",
}
_NO_SNAPSHOT = {
    HYPERCORN: "its shared state has events and a count of requests (hypercorn/trio/worker_context.py)",
    UVICORN: (
        "`Server.server_state` has a count and sets of live protocol objects and tasks, without what they do"
        " or until when (uvicorn/server.py)"
    ),
    GRANIAN: "its metrics are sums (granian/server/common.py); no view of single connections",
}

CLAIMS = [
    Claim("grouped errors are reported whole, and the server goes on", "N9, S54", _grouped),
    Claim("a handler that fails harms no other", "S53", _isolated),
    Claim("a deadline travels: three servers in a chain stop together", "N12", _deadline, _NO_DEADLINE),
    Claim("a live server shows connections, requests, deadlines", "N25, S51", _snapshot, _NO_SNAPSHOT),
]
