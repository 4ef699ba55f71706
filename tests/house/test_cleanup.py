"""The rule on clean-up that waits: our code keeps it, and it can complain."""

from __future__ import annotations

import pytest

from tests.house._cleanup import broken_promises, waiting_cleanups
from tests.house._source import complaints, our_code, with_a_mistake


def test_our_clean_up_awaits_nothing_that_a_cancel_cuts_short() -> None:
    assert complaints(waiting_cleanups, our_code()) == {}


def test_each_function_that_clean_up_may_await_says_that_a_cancel_finds_it_done() -> None:
    assert broken_promises(our_code()) == []


CLEAN_UPS = {
    "finally": "finally:\n        {}",
    "BaseException": "except BaseException:\n        {}\n        raise",
    "Cancelled": "except trio.Cancelled:\n        {}\n        raise",
    "bare": "except:\n        {}\n        raise",
    "tuple": "except (OSError, BaseException):\n        {}\n        raise",
    "group": "except BaseExceptionGroup:\n        {}\n        raise",
    "star": "except* trio.Cancelled:\n        {}\n        raise",
    "alias": "except Stopped:\n        {}\n        raise",
}


def cleaning_up(where: str, what: str) -> str:
    clean_up = CLEAN_UPS[where].format(what.replace("\n", "\n    "))
    return f"from trio import Cancelled as Stopped\nasync def f():\n    try:\n        pass\n    {clean_up}\n"


@pytest.mark.parametrize("where", CLEAN_UPS)
@pytest.mark.parametrize(
    "what",
    [
        "await stream.send_all(b'')",
        "await trio.sleep(1)",
        "if late:\n        await trio.lowlevel.checkpoint()",
        "async with lock:\n        pass",
        "async for piece in body:\n        pass",
        "with trio.move_on_after(1):\n        await stream.send_eof()",
        "await stream.aclose(), await stream.send_eof()",
    ],
)
def test_clean_up_that_waits_is_told(where: str, what: str) -> None:
    assert waiting_cleanups(cleaning_up(where, what))


@pytest.mark.parametrize("where", CLEAN_UPS)
@pytest.mark.parametrize(
    "what",
    [
        "stream.close()",
        "await trio.aclose_forcefully(stream)",
        "await stream.aclose()",
        "await owner.discard(link, 'failed')",
        "await trio.lowlevel.cancel_shielded_checkpoint()",
        "with trio.move_on_after(1, shield=True):\n        await stream.send_eof()",
        "await server.said()  # finishes: it says it in synchronous code",
        "async def later():\n        await trio.sleep(1)\n    tasks.append(later)",
    ],
)
def test_clean_up_that_ends_at_once_is_not_told(where: str, what: str) -> None:
    assert waiting_cleanups(cleaning_up(where, what)) == []


def test_a_handler_that_sees_no_cancel_may_wait() -> None:
    source = "async def f():\n    try:\n        pass\n    except OSError:\n        await trio.sleep(1)\n"
    assert waiting_cleanups(source) == []
    source = "async def f():\n    try:\n        pass\n    except trio.Cancelled:\n        raise\n"
    assert waiting_cleanups(f"{source}    except BaseException:\n        await trio.sleep(1)\n") == []


def test_the_part_of_a_handler_that_is_for_an_error_may_wait() -> None:
    handler = "try:\n        pass\n    except BaseException as exc:\n        if isinstance(exc, {}):\n"
    wait = "            await trio.lowlevel.checkpoint()\n        raise\n"
    source = f"async def f():\n    {handler}{wait}"
    assert waiting_cleanups(source.format("trio.BrokenResourceError")) == []
    assert waiting_cleanups(source.format("(OSError, trio.BrokenResourceError)")) == []
    assert waiting_cleanups(source.format("trio.Cancelled"))
    assert waiting_cleanups(source.format("BaseException"))
    assert waiting_cleanups(
        source.format("OSError").replace("raise", "else:\n            await late()\n        raise")
    )


def test_a_promise_that_is_not_made_is_told() -> None:
    made = {"a.py": our_promises()}
    assert broken_promises(made) == []
    assert broken_promises({"a.py": made["a.py"].replace("async def dismissed", "async def forgotten")})
    other = "async def discard():\n    '''Close it.\n\n    Cancellation: it waits.\n    '''\n"
    assert broken_promises({**made, "b.py": other})
    refers = "class C:\n    async def discard(self):\n        '''See `Owner.discard`.'''\n"
    assert broken_promises({**made, "b.py": refers}) == []


def our_promises() -> str:
    names = (
        "_closed_after_failure aclose aclose_forcefully close_listeners discard dismissed end leave".split()
    )
    docstring = "'''Close it.\n\n    Cancellation: not affected.\n    '''"
    return "".join(f"async def {name}():\n    {docstring}\n" for name in names)


@pytest.mark.parametrize(
    ("path", "right", "wrong"),
    [
        (
            "trio_http/client/_pool.py",
            "        finally:  # they may raise a KeyboardInterrupt\n",
            "        finally:\n            await trio.lowlevel.checkpoint()\n",
        ),
        (
            "trio_http/client/_exchange.py",
            "        await _closed_after_failure(reader)\n        raise\n    link.watch",
            "        await reader.finish()\n        raise\n    link.watch",
        ),
        (
            "trio_http/client/_download.py",
            "trio.CancelScope(shield=True, deadline=trio.current_time() + _CLOSING_SECONDS)",
            "trio.CancelScope(deadline=trio.current_time() + _CLOSING_SECONDS)",
        ),
        (
            "trio_http/server/_serve.py",
            "                if shared.poll is not None:\n                    shared.poll.close()\n",
            "                await helpers.start(shared.goodbye)\n",
        ),
        (
            "trio_http/transport/_tls_over.py",
            "        await inner.aclose_forcefully()\n",
            "        await transport._settle_soon()\n        await inner.aclose_forcefully()\n",
        ),
    ],
)
def test_clean_up_that_waits_is_told_in_our_own_files(path: str, right: str, wrong: str) -> None:
    assert len(waiting_cleanups(with_a_mistake(path, right, wrong))) == 1
