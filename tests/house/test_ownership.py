"""The rule on the time between taking a thing and owning it: our code keeps it, and it can complain."""

from __future__ import annotations

import ast
import textwrap

import pytest

from tests.house._ownership import unowned_takings
from tests.house._source import complaints, our_code, parsed, with_a_mistake
from tests.house._takers import BORROW, BORROWED, KEEP, RELEASE, TAKE_OVER, TAKERS, TOKENS, WRAP


def test_our_code_awaits_nothing_between_taking_a_thing_and_owning_it() -> None:
    assert complaints(unowned_takings, our_code()) == {}


def test_each_name_in_the_tables_is_of_a_function_that_exists() -> None:
    known = set(BORROWED)
    for source in our_code().values():
        for node in ast.walk(parsed(source)):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                known.add(node.name)
                known.update(
                    argument.arg for argument in node.args.args
                )  # a callback is called by a parameter
    named = [*TAKERS, *TAKE_OVER, *BORROW, *KEEP, *RELEASE, *WRAP, *TOKENS, *TOKENS.values()]
    assert [name for name in named if not {name.rpartition(".")[2], f"_{name}"} & known] == []


@pytest.mark.parametrize(
    "names", [names for names in {**TAKE_OVER, **BORROW}.items() if names[1]], ids=lambda names: names[0]
)
def test_each_function_that_takes_a_thing_over_has_a_parameter_for_it(
    names: tuple[str, tuple[str, ...]],
) -> None:
    name, parameters = names
    definitions = [
        node
        for source in our_code().values()
        for node in ast.walk(parsed(source))
        if isinstance(node, ast.AsyncFunctionDef) and node.name == name
    ]
    has = {argument.arg for node in definitions for argument in [*node.args.args, *node.args.kwonlyargs]}
    assert set(parameters) <= has


def function(body: str) -> str:
    return "async def f(self):\n" + textwrap.indent(textwrap.dedent(body).strip(), "    ") + "\n"


LOST = {
    "a socket, before it is connected": """
        sock = trio.socket.socket()
        await sock.connect(address)
        return sock
        """,
    "a stream that was dialed, before it is kept": """
        stream = await dial(host)
        await trio.lowlevel.checkpoint()
        self.stream = stream
        """,
    "a connection of the pool": """
        link = self._owner.take(plan)
        await trio.lowlevel.checkpoint_if_cancelled()
        return link
        """,
    "one of two ways": """
        link = self.owner.take(plan) or await self.owner.lease(plan)
        if plan.slow:
            await trio.sleep(1)
        return link
        """,
    "in a turn of a loop": """
        while True:
            connection, address = listener.accept()
            if address in wanted:
                await trio.sleep(0)
            handlers.append(connection)
        """,
    "over the end of a loop's turn": """
        while True:
            await wait_readable(fd)
            connection, address = view.accept()
            note(connection)
        """,
    "behind a `with`": """
        with trio.move_on_after(1):
            stream = await connect_tcp(addresses, 80)
        await trio.sleep(1)
        return stream
        """,
    "at the entry of an `async with`": """
        handle = os.open(path, os.O_RDONLY)
        async with lock:
            self.handle = handle
        """,
    "at the end of a nursery": """
        async with trio.open_nursery() as nursery:
            stream = await dial(host)
        return stream
        """,
    "behind a `try` that closes nothing": """
        stream = await dial(host)
        try:
            await greet()
        except OSError:
            stream.close()
            raise
        return stream
        """,
    "in a handler": """
        stream = await dial(host)
        try:
            check(stream)
        except ValueError:
            await trio.sleep(1)
            stream.close()
            raise
        return stream
        """,
    "before the `try` that closes it": """
        stream = await dial(host)
        await trio.sleep(0)
        try:
            await greet()
        finally:
            await stream.aclose()
        """,
    "behind the `try` that closes it on a failure only": """
        stream = await dial(host)
        try:
            await greet()
        except BaseException:
            await trio.aclose_forcefully(stream)
            raise
        await trio.sleep(0)
        return stream
        """,
    "in an object that nobody has": """
        sock = trio.socket.socket()
        stream = trio.SocketStream(sock)
        await stream.send_all(greeting)
        return stream
        """,
    "the second of a pair": """
        ours, theirs = memory_pair()
        self.ours = ours
        await trio.sleep(0)
        self.theirs = theirs
        """,
    "in a thread": """
        part = await trio.to_thread.run_sync(PartialFile.open, target)
        await trio.sleep(0)
        return part
        """,
    "by a walrus": """
        while (slot := self._ledger.take(route)) is not None:
            await look_at(slot)
            self.slots.append(slot)
        """,
    "as an argument of a function that does not own it": """
        return await greeted(await dial(host))
        """,
    "dropped": """
        await dial(host)
        """,
    "a name that is taken away": """
        stream = await dial(host)
        for piece in pieces:
            await stream.send_all(piece)
        return stream
        """,
    "a place at a limiter": """
        await limiter.acquire()
        await work()
        limiter.release()
        """,
    "a place at a gate": """
        if self._gate.enter():
            await self.serve()
            self._gate.leave()
        """,
    "a token of a budget": """
        if not self.claim(delay):
            await trio.lowlevel.checkpoint()
            return False
        await trio.sleep(delay)
        return True
        """,
}


@pytest.mark.parametrize("body", LOST.values(), ids=LOST)
def test_a_thing_that_a_cancel_could_find_ownerless_is_told(body: str) -> None:
    assert unowned_takings(function(body))


OWNED = {
    "kept": "self.stream = await dial(host)\nawait trio.sleep(0)",
    "returned": "return trio.SocketStream(trio.socket.socket())",
    "kept in the next statement": "stream = await dial(host)\nself.ways[host] = stream\nawait trio.sleep(0)",
    "kept in a container": "stream = await dial(host)\nself.streams.append(stream)\nawait trio.sleep(0)",
    "entered": "stream = await dial(host)\nasync with stream:\n    await trio.sleep(0)",
    "entered at once": "with socket.socket() as sock:\n    await probe(sock)",
    "entered in something": "fd = os.open(path, 0)\nwith os.fdopen(fd) as file:\n    await trio.sleep(0)",
    "on a stack": "stream = await dial(host)\nstack.enter_context(stream)\nawait trio.sleep(0)",
    "looked after": """
        stream = await dial(host)
        try:
            await stream.send_all(greeting)
        except BaseException:
            await trio.aclose_forcefully(stream)
            raise
        return stream
        """,
    "looked after from before": """
        sock = None
        try:
            sock = trio.socket.socket()
            await sock.connect(address)
        finally:
            if sock is not None:
                sock.close()
        """,
    "handed over": "link = await self.owner.lease(plan)\nawait self.owner.discard(link, 'unused')",
    "handed over at once": "return await tls_over(await dial(host), context)",
    "lent": "link = await self.owner.lease(plan)\nawait begin_on(link, self.owner, plan)\nreturn link",
    "to a task": "stream = await dial(host)\nnursery.start_soon(serve, stream)\nawait trio.sleep(0)",
    "closed": "stream = await dial(host)\nawait stream.aclose()\nawait trio.sleep(0)",
    "given back": "link = self.owner.take(plan)\nself.owner.give_back(link)\nawait trio.sleep(0)",
    "not there": """
        link = self.owner.take(plan)
        if link is None:
            await trio.sleep(0)
        return link
        """,
    "not there by a walrus": """
        if (link := self.owner.take(plan)) is not None:
            return link
        await trio.sleep(0)
        """,
    "an error": """
        won = await race(*attempts)
        if isinstance(won, Exception):
            await note(won)
            raise won
        return won
        """,
    "both of a pair": "self.ours, self.theirs = memory_pair()\nawait trio.sleep(0)",
    "in the next turn": """
        while True:
            await wait_readable(fd)
            connection, _ = view.accept()
            handlers.append(connection)
        """,
    "a place at a limiter": """
        await limiter.acquire()
        try:
            await work()
        finally:
            limiter.release()
        """,
    "a token": """
        if not self.claim(delay):
            await trio.lowlevel.checkpoint()
            return False
        try:
            await trio.sleep(delay)
        except BaseException:
            self.budget.give_back()
            raise
        """,
    "said of the taking": "stream = await dial(host)  # owned: by the test's nursery\nawait trio.sleep(0)",
    "said of the await": "stream = await dial(host)\nawait note(stream)  # owned: `note` closes it",
    "another thing of that name": "await limiter.release()\npart.begin(1)\nserver.accept\nself.open()",
}


@pytest.mark.parametrize("body", OWNED.values(), ids=OWNED)
def test_a_thing_that_has_an_owner_is_not_told(body: str) -> None:
    assert unowned_takings(function(body)) == []


def test_a_function_that_takes_something_over_and_does_not_look_after_it_is_told() -> None:
    body = "    await trio.sleep(0)\n    return await Transport.made(stream)\n"
    assert unowned_takings(f"async def tls_over(stream, context):\n{body}")
    assert (
        unowned_takings(f"async def wrapped(stream, context):\n{body}") == []
    )  # it does not say that it does


@pytest.mark.parametrize(
    ("path", "right", "wrong"),
    [
        (
            "trio_http/client/_exchange.py",
            "    link.watch = watch\n    await begin_and_close(",
            "    await trio.lowlevel.checkpoint()\n    link.watch = watch\n    await begin_and_close(",
        ),
        (
            "trio_http/client/_exchange.py",
            "                if link is not None:\n                    link.leased_at = asked_at\n",
            "                if link is not None:\n                    await trio.lowlevel.checkpoint()\n",
        ),
        (
            "trio_http/client/_requester.py",
            "        # No checkpoint from here on: the link is in nobody's hands.\n",
            "        await trio.lowlevel.checkpoint()\n",
        ),
        (
            "trio_http/client/_connect.py",
            "        if sock is not None:\n            sock.close()\n",
            "",
        ),
        (
            "trio_http/client/_pool.py",
            "        return self.take(plan) or await self._wait(plan)\n",
            "        link = self.take(plan)\n        await trio.lowlevel.checkpoint()\n"
            "        return link or await self._wait(plan)\n",
        ),
        (
            "trio_http/client/_dial.py",
            "            await transport.aclose_forcefully()\n            raise\n        times.proxied",
            "            raise\n        times.proxied",
        ),
        (
            "trio_http/client/_download.py",
            "    try:\n        if not resume:\n            part.record = None\n",
            "    await trio.sleep(0)\n    try:\n        if not resume:\n            part.record = None\n",
        ),
        (
            "trio_http/server/_accept.py",
            "                _hand_over(connection, peername, admit, gate, refuse)\n",
            "                await trio.lowlevel.checkpoint()\n"
            "                _hand_over(connection, peername, admit, gate, refuse)\n",
        ),
        (
            "trio_http/server/_accept.py",
            "                await trio.aclose_forcefully(stream)\n            except Exception:  # the",
            "                await trio.lowlevel.checkpoint()\n            except Exception:  # the",
        ),
        (
            "trio_http/server/_listen.py",
            "        os.close(directory)  # and with it the lock\n",
            "        pass\n",
        ),
        (
            "trio_http/client/_retry.py",
            "            if self.budget is not None:\n                self.budget.give_back()\n",
            "",
        ),
        (
            "trio_http/transport/_tls_over.py",
            "    inner = transport_over(stream)\n    try:\n",
            "    inner = transport_over(stream)\n    await trio.lowlevel.checkpoint()\n    try:\n",
        ),
    ],
)
def test_an_await_before_the_owner_is_told_in_our_own_files(path: str, right: str, wrong: str) -> None:
    assert len(unowned_takings(with_a_mistake(path, right, wrong))) >= 1
