"""The rule on shields: our code keeps it, and it can complain."""

from __future__ import annotations

import pytest

from tests.house._shields import unbounded_shields
from tests.house._source import complaints, helpers_of_tests, our_code, with_a_mistake


def test_our_code_has_no_shield_whose_end_nobody_can_see() -> None:
    assert complaints(unbounded_shields, our_code()) == {}


def test_what_tests_are_made_of_has_no_such_shield_either() -> None:
    assert complaints(unbounded_shields, helpers_of_tests()) == {}


@pytest.mark.parametrize(
    "source",
    [
        # none at all
        "with trio.CancelScope(shield=True): pass",
        "with CancelScope(shield=held): pass",
        "with trio.fail_after(shield=True): pass",
        # one that never comes
        "with trio.CancelScope(shield=True, deadline=math.inf): pass",
        "with trio.move_on_after(inf, shield=True): pass",
        "with trio.CancelScope(shield=True, deadline=trio.current_time() + float('inf')): pass",
        "with trio.CancelScope(shield=True, relative_deadline=5 if polite else math.inf): pass",
        "with trio.move_on_after(max(1, math.inf), shield=True): pass",
        # one that nobody can see
        "with trio.CancelScope(shield=True, deadline=limit): pass",
        "with trio.CancelScope(shield=True, deadline=self.deadline): pass",
        "with trio.CancelScope(shield=True, deadline=trio.current_effective_deadline()): pass",
        "def f(limit):\n    with trio.CancelScope(shield=True, relative_deadline=limit): pass",
        # a name that is given one, and none
        "LIMIT = math.inf\nwith trio.CancelScope(shield=True, relative_deadline=LIMIT): pass",
        "def f():\n    end = 1.0\n    end = math.inf\n    with trio.move_on_at(end, shield=True): pass",
        "LIMIT = 5\ndef f(LIMIT):\n    with trio.move_on_after(LIMIT, shield=True): pass",
        # by another name
        "from trio import CancelScope as Scope\nwith Scope(shield=True): pass",
        "Scope = trio.CancelScope\nwith Scope(shield=True): pass",
        "held = functools.partial(trio.CancelScope, shield=True)",
        "with trio.CancelScope(**options): pass",
        # afterwards
        "scope.shield = True",
        "scope.shield = held",
        "scope.shield |= held",
        "nursery.cancel_scope.shield = True",
        "trio.open_nursery().cancel_scope.shield = True",
        "first.shield = second.shield = True",
        "setattr(scope, 'shield', True)",
        "scope.shield = True  # bounded:",
        "scope.shield = True  # bounded: yes",
        "with trio.CancelScope(shield=True): pass  # shielded, for the peer must be told",
        # taken away again
        "scope = trio.move_on_after(2, shield=True)\nwith scope:\n    scope.deadline = math.inf",
    ],
)
def test_a_shield_whose_end_nobody_can_see_is_told(source: str) -> None:
    assert unbounded_shields(source)


@pytest.mark.parametrize(
    "source",
    [
        "with trio.CancelScope(shield=True, relative_deadline=2): pass",
        "with trio.CancelScope(shield=True, deadline=trio.current_time() + 2): pass",
        "with trio.CancelScope(shield=True, deadline=-math.inf): pass",
        "with trio.move_on_after(2, shield=True): pass",
        "with trio.fail_at(trio.current_time() + min(1.5, left), shield=True): pass",
        "LIMIT: Final = 5\ndef f():\n    with trio.move_on_after(LIMIT, shield=True): pass",
        "def f():\n    end = trio.current_time() + 1\n    with trio.move_on_at(end, shield=True): pass",
        "with trio.CancelScope(shield=False): pass",
        "with trio.CancelScope(deadline=math.inf): pass",
        "scope.shield = False",
        "scope.shield = True  # bounded: by the grace of the shutdown",
        "# bounded: the caller gives it an end\nwith trio.CancelScope(shield=True, deadline=end): pass",
        "scope.deadline = math.inf",
    ],
)
def test_a_shield_with_an_end_is_not_told(source: str) -> None:
    assert unbounded_shields(source) == []


@pytest.mark.parametrize(
    ("path", "right", "wrong"),
    [
        (
            "trio_http/client/_download.py",
            "trio.CancelScope(shield=True, deadline=trio.current_time() + _CLOSING_SECONDS)",
            "trio.CancelScope(shield=True)",
        ),
        (
            "trio_http/transport/_stream.py",
            "trio.CancelScope(deadline=-math.inf, shield=True)",
            "trio.CancelScope(deadline=math.inf, shield=True)",
        ),
        (
            "trio_http/client/_race.py",
            "trio.CancelScope(shield=True, deadline=-math.inf)",
            "trio.CancelScope(shield=True, deadline=self._until)",
        ),
        ("trio_http/client/_client.py", "  # bounded: by the block, whose end cancels the scope", ""),
        (
            "trio_http/server/_linger.py",
            "    with trio.move_on_after(",
            "    link.scope.shield = True\n    with trio.move_on_after(",
        ),
    ],
)
def test_a_shield_without_an_end_is_told_in_our_own_files(path: str, right: str, wrong: str) -> None:
    assert len(unbounded_shields(with_a_mistake(path, right, wrong))) == 1
