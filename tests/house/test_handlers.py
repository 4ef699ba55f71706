"""The rules on what may eat a cancel without a handler that a linter sees: our code keeps them, and they can
complain.
"""

from __future__ import annotations

import pytest

from tests.house._handlers import (
    caught_groups,
    exits_that_may_swallow,
    raises_that_only_seem,
    silenced_without_a_reason,
    suppressed_cancels,
)
from tests.house._source import Rule, complaints, helpers_of_tests, our_code, with_a_mistake

RULES = [
    suppressed_cancels,
    caught_groups,
    raises_that_only_seem,
    exits_that_may_swallow,
    silenced_without_a_reason,
]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_our_code_eats_no_cancel(rule: Rule) -> None:
    assert complaints(rule, our_code()) == {}


def test_what_tests_are_made_of_suppresses_no_cancel() -> None:
    assert complaints(suppressed_cancels, helpers_of_tests()) == {}


@pytest.mark.parametrize(
    "source",
    [
        "with contextlib.suppress(BaseException): pass",
        "with suppress(OSError, trio.Cancelled): pass",
        "with contextlib.suppress(BaseExceptionGroup): pass",
        "from contextlib import suppress as quietly\nwith quietly(BaseException): pass",
        "from trio import Cancelled as Stopped\nwith suppress(Stopped): pass",
        "ALL = (OSError, BaseException)\nwith suppress(*ALL): pass",
        "with ExitStack() as stack:\n    stack.enter_context(suppress(BaseException))",
    ],
)
def test_a_suppressed_cancel_is_told(source: str) -> None:
    assert suppressed_cancels(source)


def test_suppressing_an_error_is_not_told() -> None:
    assert suppressed_cancels("with contextlib.suppress(OSError, trio.BrokenResourceError): pass") == []
    assert suppressed_cancels("FEW = (OSError, ValueError)\nwith suppress(*FEW): pass") == []


@pytest.mark.parametrize(
    "handler",
    [
        "except BaseExceptionGroup: pass",
        "except BaseExceptionGroup as group:\n    raise",
        "except (OSError, BaseExceptionGroup) as group: pass",
        "except EVERYTHING: pass",
        "except FEW + EVERYTHING: pass",
        "except Anything: pass",
        "except Groups: pass",
        "except BaseExceptionGroup:  # what became of it does not matter\n    pass",
    ],
)
def test_a_handler_that_takes_groups_or_hides_what_it_takes_is_told(handler: str) -> None:
    names = "FEW = (OSError,)\nEVERYTHING = (*FEW, BaseException)\nAnything: Final = BaseException\n"
    names += "from builtins import BaseExceptionGroup as Groups\n"
    assert caught_groups(f"{names}try: pass\n{handler}")


@pytest.mark.parametrize(
    "handler",
    [
        "except BaseExceptionGroup as group:  # cancel: goes on, with the group\n    raise",
        "except ExceptionGroup: pass",
        "except* OSError: pass",
        "except FEW: pass",
        "except BaseException: raise",  # a linter's affair
        "except: raise",
    ],
)
def test_a_handler_that_gives_a_reason_or_takes_no_cancel_is_not_told(handler: str) -> None:
    assert caught_groups(f"FEW = (OSError, ValueError)\ntry: pass\n{handler}") == []


@pytest.mark.parametrize(
    "body",
    [
        "return True",
        "return kind is not None",
        "return self.swallow",
        "if kind is None: return None\n        return self._scope.cancelled_caught",
    ],
)
@pytest.mark.parametrize("head", ["def __exit__", "async def __aexit__"])
def test_an_exit_that_may_swallow_is_told(head: str, body: str) -> None:
    assert exits_that_may_swallow(f"class C:\n    {head}(self, kind, exc, tb):\n        {body}\n")


@pytest.mark.parametrize(
    "body",
    [
        "self.close()",
        "return",
        "return None",
        "return False",
        "return self._scope.__exit__(kind, exc, tb)",
        "return isinstance(exc, OSError)  # cancel: it is no OSError",
        "def inner(): return True\n        inner()",
    ],
)
def test_an_exit_that_lets_everything_through_is_not_told(body: str) -> None:
    assert exits_that_may_swallow(f"class C:\n    def __exit__(self, kind, exc, tb):\n        {body}\n") == []
    assert (
        exits_that_may_swallow("class C:\n    async def __aexit__(self, *_):\n        await self.aclose()\n")
        == []
    )


@pytest.mark.parametrize(
    "body",
    [
        "exc = OSError()\n    raise exc",
        "if late:\n        exc = OSError()\n    raise exc",
        "for exc in exc.exceptions: pass\n    raise exc",
        "if (exc := exc.__cause__): pass\n    raise exc",
        "def later():\n        raise\n    later()",
    ],
)
def test_a_raise_that_only_seems_to_pass_a_cancel_on_is_told(body: str) -> None:
    assert raises_that_only_seem(f"try:\n    pass\nexcept BaseException as exc:\n    {body}\n")


def test_a_raise_that_passes_a_cancel_on_is_not_told() -> None:
    assert (
        raises_that_only_seem("try:\n    pass\nexcept BaseException as exc:\n    note(exc)\n    raise exc\n")
        == []
    )
    assert raises_that_only_seem("try:\n    pass\nexcept OSError as exc:\n    exc = None\n") == []


def test_a_linter_that_is_silenced_without_a_reason_is_told() -> None:
    assert silenced_without_a_reason("except BaseException:  # noqa: ASYNC103")
    assert silenced_without_a_reason("except BaseException as exc:  # noqa: BLE001, ASYNC103  #")
    assert silenced_without_a_reason("    return  # noqa: B012 -")
    assert silenced_without_a_reason("except Exception:  # noqa: BLE001  # why it may") == []
    assert silenced_without_a_reason("except BaseException:  # noqa: BLE001, ASYNC103  # raised below") == []
    assert silenced_without_a_reason("while wait():  # noqa: ASYNC110 - the kernel's lock has no event") == []
    assert silenced_without_a_reason("import os  # noqa: F401") == []  # says nothing about cancelling


@pytest.mark.parametrize(
    ("rule", "path", "right", "wrong"),
    [
        (
            suppressed_cancels,
            "trio_http/transport/_tls_over_stream.py",
            "            contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError),\n",
            "            contextlib.suppress(trio.BrokenResourceError, trio.Cancelled),\n",
        ),
        (
            suppressed_cancels,
            "trio_http/client/_connect.py",
            "contextlib.suppress(OSError, AttributeError)",
            "contextlib.suppress(BaseException)",
        ),
        (
            caught_groups,
            "trio_http/client/_exchange.py",
            "  # cancel: raised below, unless something else says more",
            "",
        ),
        (
            caught_groups,
            "trio_http/client/_link.py",
            "LINK_ERRORS: Final = (wire.RemoteProtocolError,",
            "LINK_ERRORS: Final = (trio.Cancelled,",
        ),
        (
            raises_that_only_seem,
            "trio_http/client/_answer.py",
            "        await body.end(*ending(exc))\n        raise\n    response",
            "        exc = ending(exc)[1]\n        raise exc\n    response",
        ),
        (
            exits_that_may_swallow,
            "trio_http/server/_finish.py",
            "return self._scope.__exit__(exc_type, exc, traceback)",
            "return self._scope.__exit__(exc_type, exc, traceback) or self._link.closing",
        ),
        (
            silenced_without_a_reason,
            "trio_http/client/_pool.py",
            "# noqa: ASYNC103  # what is handed on is no cancel",
            "# noqa: ASYNC103",
        ),
    ],
)
def test_a_cancel_that_is_eaten_is_told_in_our_own_files(
    rule: Rule, path: str, right: str, wrong: str
) -> None:
    assert len(rule(with_a_mistake(path, right, wrong))) == 1
