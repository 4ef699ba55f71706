"""Request smuggling: no request that a proxy and we frame differently, whatever an attacker sends.

Each attack of `tests.interop.smuggling.corpus` goes to our server as it is, and through nginx and HAProxy,
each of them once with its defaults and once as lenient as it can be made. Behind a proxy the proof is
book-keeping. The proxy gives each request that it believes it has an id; our handler writes down the id of
each request that it sees; and the proxy's log says what was forwarded. A request that we see and the proxy
did not forward has no id, or another's; one that the proxy forwarded and we took for part of a body is
missing; and when answers slip by one, a client is told another's id. All connections to our server are kept
and shared, so what one attack leaves behind would hit whoever comes next.
"""

from __future__ import annotations

import collections
import functools
import re
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest
import trio

from tests.interop.behind import start
from tests.interop.programs import SECONDS, Proxy, haproxy_before, nginx_before
from tests.interop.smuggling.corpus import CORPUS, Attack
from tests.interop.smuggling.witness import SEEN, Sight, Witness, answers, converse, readings
from trio_http import ServerConfig

pytestmark = pytest.mark.interop


def after(mark: str) -> bytes:
    """An honest request, which stands behind the attack on its connection."""
    return f"GET /{mark}/after HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode()


def victim(mark: str) -> bytes:
    """Somebody else's request, on another connection."""
    return f"GET /{mark}/victim HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode()


@pytest.fixture
def witness() -> Witness:
    return Witness()


# ---------------------------------------------------------------------------------------------- sent to us


def test_the_corpus_is_large_and_each_attack_has_its_own_bytes() -> None:
    assert len(CORPUS) >= 80
    counts = collections.Counter(attack.raw for attack in CORPUS)
    assert [raw for raw, count in counts.items() if count > 1] == []


@pytest.mark.parametrize("attack", CORPUS, ids=lambda attack: attack.name)
async def test_an_ambiguous_request_is_refused_or_the_last_of_its_connection(
    attack: Attack, witness: Witness, nursery: trio.Nursery
) -> None:
    # An attack is sent with an end behind it, so that nobody waits for the rest of it; what came whole before
    # that is to be answered all the same.
    port = await start(nursery, witness.handler, ServerConfig(half_close="answer"))
    with trio.fail_after(SECONDS):
        data, reset = await converse(port, attack.marked(b"mark") + after("mark"))
    assert not reset
    got = answers(data)
    assert (got[0].status if got else 0) == attack.verdict
    if attack.ambiguous:
        assert len(got) <= 1
        assert len(witness.sights) <= 1
        assert not any("smuggled" in sight.target or "after" in sight.target for sight in witness.sights)
        if attack.verdict != SEEN:
            assert b"\r\nconnection: close\r\n" in data.lower()
    else:
        assert got[-1].target == "/mark/after"
    # One answer for each request that was seen whole, in their order.
    complete = [sight.target for sight in witness.sights if sight.content is not None]
    assert [answer.target for answer in got if answer.target] == complete
    for sight in witness.sights[:1]:
        assert sight.content is None or sight.content in readings(attack.marked(b"mark"))


# -------------------------------------------------------------------------------------- sent through a proxy

Complaints = dict[str, list[str]]


class Trial:
    """All attacks through one proxy, and what is wrong about the outcome.

    Attributes:
      complaints: by attack; "proxy" for what belongs to none.
      verdicts: how often each first status came, ours and the proxy's.
    """

    def __init__(self, proxy: Proxy, witness: Witness) -> None:
        self.proxy = proxy
        self.witness = witness
        self.complaints: Complaints = collections.defaultdict(list)
        self.verdicts: collections.Counter[int] = collections.Counter()
        self.attacks: dict[str, Attack] = {}

    async def send(self, attack: Attack) -> None:
        """Send one attack with an honest request behind it, then somebody else's request."""
        mark = f"m{len(self.attacks):03}"
        self.attacks[mark] = attack
        complain = self.complaints[attack.name].append
        raw = attack.marked(mark.encode())
        with trio.fail_after(SECONDS):
            data, _ = await converse(self.proxy.port, raw + after(mark))
            other, _ = await converse(self.proxy.port, victim(mark))
        got = answers(data)
        self.verdicts[got[0].status if got else 0] += 1
        for answer in got + answers(other):
            if answer.back and answer.back != answer.front:
                complain(f"the answer to {answer.back} came for {answer.front}")
        if [(answer.status, answer.target) for answer in answers(other)] != [(SEEN, f"/{mark}/victim")]:
            complain(f"somebody else's request was answered {other!r}")
        for sight in self.witness.of(mark):
            if "/attack" in sight.target and sight.content is not None and sight.content not in readings(raw):
                complain(f"content that nobody sent: {sight.content!r}")
            if "/smuggled" in sight.target and sight.content:
                complain(f"the request inside has content: {sight.content!r}")
        # Whoever was answered by our handler was seen by it, and the other way round.
        told = [answer.back for answer in got if answer.back]
        seen = [s.id for s in self.witness.of(mark) if s.content is not None and "/victim" not in s.target]
        if told != seen:
            complain(f"we answered {seen}, and of these the client got {told}")

    def settle(self) -> None:
        """Compare what we saw with what the proxy says that it forwarded, request by request."""
        complain = self.complaints["proxy"].append
        account = {entry.id: entry for entry in self.proxy.account()}
        sights: dict[str, list[Sight]] = collections.defaultdict(list)
        for sight in self.witness.sights:
            sights[sight.id].append(sight)
        for name, seen in sights.items():
            entry = account.get(name)
            if entry is None or not entry.forwarded:
                complain(f"seen, and never forwarded: {seen}")
            elif len(seen) != 1:
                complain(f"forwarded once, seen as {seen}")
            elif not is_request_line(entry.line, seen[0]):
                complain(f"forwarded as {entry.line!r}, seen as {seen}")
        for name, entry in account.items():
            if entry.forwarded and entry.status == SEEN and name not in sights:
                complain(f"forwarded, answered, and never seen: {entry}")


def is_request_line(line: str, sight: Sight) -> bool:
    """Whether a logged request line is that of a request we saw, as far as proxies may rewrite it."""
    method, _, target = line.partition(" ")
    target = target.rstrip(" ").rpartition(" ")[0].strip(" ")  # nginx forgives spaces, and forwards none
    if (
        "://" in target.partition("?")[0]
    ):  # an absolute-form may be forwarded as origin-form (RFC 9112 §3.2.1)
        target = re.sub(r"^[^:]+://[^/?]*/?", "/", target)
    return method == sight.method and target == re.sub(r"^[^:/?]+://[^/?]*/?", "/", sight.target)


NGINX_LENIENT = """
    ignore_invalid_headers off; underscores_in_headers on; merge_slashes off;
    proxy_request_buffering off; proxy_buffering off;
"""
# Nothing is tried twice, so that nothing is rightly seen twice; and a client that has half-closed is
# answered.
NGINX_ALWAYS = "proxy_next_upstream off; proxy_ignore_client_abort on; lingering_timeout 1s;"

Run = Callable[[int], AbstractAsyncContextManager[Proxy]]


@pytest.fixture(params=["nginx", "nginx, lenient", "haproxy", "haproxy, lenient"])
def proxy_before(request: pytest.FixtureRequest, program: Callable[[str], str], tmp_path: Path) -> Run:
    """A function that runs a proxy before a port."""
    name, _, lenient = str(request.param).partition(", ")
    path, folder = program(name), tmp_path / "proxy"
    if name == "nginx":
        options = NGINX_ALWAYS + (NGINX_LENIENT if lenient else "")
        return functools.partial(nginx_before, path=path, folder=folder, options=options)
    options = "option accept-invalid-http-request" if lenient else ""
    return functools.partial(
        haproxy_before, path=path, folder=folder, options=options, backend_options="retries 0"
    )


async def test_what_a_proxy_forwards_is_what_we_see(
    proxy_before: Run, witness: Witness, nursery: trio.Nursery
) -> None:
    async with proxy_before(await start(nursery, witness.handler)) as proxy:
        trial = Trial(proxy, witness)
        for attack in CORPUS:
            await trial.send(attack)
        await proxy.stop()
        trial.settle()
    assert {name: found for name, found in trial.complaints.items() if found} == {}
    # It was worth something: much of it came through to us, on connections that were used again and again.
    seen = [sight for sight in witness.sights if "/attack" in sight.target]
    assert len(seen) > 50
    assert len({sight.connection for sight in witness.sights}) < len(seen)


async def test_a_server_that_overlooks_bodies_is_found_out(
    proxy_before: Run, witness: Witness, nursery: trio.Nursery
) -> None:
    """The same book-keeping over a server that does frame differently: it must not come out even."""
    listeners = await nursery.start(trio.serve_tcp, witness.serve_without_bodies, 0)
    async with proxy_before(listeners[0].socket.getsockname()[1]) as proxy:
        trial = Trial(proxy, witness)
        for name in ("neither CL nor TE", "CL on GET"):
            await trial.send(next(attack for attack in CORPUS if attack.name == name))
        await proxy.stop()
        trial.settle()
    assert any("never forwarded" in complaint for complaint in trial.complaints["proxy"])
    assert trial.complaints["CL on GET"] != []
    assert trial.complaints["neither CL nor TE"] == []
