"""Mistakes with the tools for tests are told at once, in the words of the argument that is wrong."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
import trio.testing

from trio_http import Response
from trio_http.testing import (
    Script,
    SimulatedNetwork,
    Simulation,
    Weather,
    cancel_at_every_step,
    no_task_left,
    open_scripted_server,
    play_to,
    play_to_handler,
    simulate,
)

pytest_plugins = ["pytester"]


async def steps(*_: object) -> None:
    await trio.lowlevel.checkpoint()
    await trio.lowlevel.checkpoint()


@asynccontextmanager
async def five() -> AsyncIterator[int]:
    yield 5


def nothing(*_: object) -> None:
    """Be no async function."""


async def generator(*_: object) -> AsyncIterator[int]:  # the mistake
    yield 5


async def takes_nothing() -> None:
    await trio.lowlevel.checkpoint()


async def takes_two(one: object, two: object) -> None:
    await trio.lowlevel.checkpoint()


def not_a_context() -> None:
    """Be an invariant that has looked, and gives nothing."""


# ------------------------------------------------------------------------------------------------- the sweep


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"scenario": nothing}, "must be an async function, and nothing is not: it returned None"),
        ({"scenario": 5}, "the scenario must be a function, got 5"),
        ({"scenario": generator}, "the scenario must not yield, and generator does"),
        ({"scenario": takes_two}, r"is called with no arguments, and takes_two\(.*missing .*'one'"),
        ({"scenario": takes_nothing, "world": five}, r"called with what the world gives, and takes_nothing"),
        ({"check": takes_two}, "check is called with no arguments, and takes_two"),
        ({"check": lambda: False}, "check must raise when something is wrong.* and returned False"),
        ({"state": steps}, "state must be a sync function, and steps is async"),
        ({"world": five()}, r"world must be a function .* a fresh one for each run.*world=lambda"),
        ({"world": takes_nothing}, "an async context manager, and takes_nothing does not: @asynccont"),
        ({"world": generator}, "an async context manager, and generator does not: @asynccont"),
        ({"invariants": no_task_left}, r"a tuple of them, got <function .*\(\*DEFAULT_INVARIANTS, yours\)"),
        ({"invariants": [5]}, "an invariant is a function that gives a context manager, got 5"),
        ({"invariants": [not_a_context]}, "invariant not_a_context must give a context manager.*got None"),
        ({"seed": "7"}, "seed must be an int, got '7'"),
    ],
)  # fmt: skip
async def test_a_sweep_says_which_argument_is_of_the_wrong_kind(arguments: dict[str, Any], told: str) -> None:
    with pytest.raises(TypeError, match=told):
        await cancel_at_every_step(**({"scenario": steps} | arguments))


async def test_a_coroutine_in_the_place_of_its_function_is_told_and_no_warning_besides() -> None:
    with pytest.raises(TypeError, match=r"not its coroutine: steps instead of steps\(\.\.\.\)"):
        await cancel_at_every_step(steps())  # type: ignore[call-overload]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"max_steps": 0}, "max_steps must be at least 1, got 0"),
        ({"patience": 0}, "patience must be above 0 seconds, got 0"),
        ({"only": 3}, "such as '12 waiting', got 3"),
        ({"only": "3"}, "such as '12 waiting', got '3'"),
        ({"only": "9 woken"}, "no cancel point '9 woken': left alone it takes 3 steps"),
    ],
)
async def test_a_sweep_says_what_it_cannot_do(arguments: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        await cancel_at_every_step(steps, **arguments)


async def test_a_check_that_tells_instead_of_raising_is_no_check() -> None:
    """What it returned was not looked at: a sweep passed whose check said False each time."""

    async def check(value: int) -> bool:
        await trio.lowlevel.checkpoint()
        return value == 6

    with pytest.raises(TypeError, match="returned False"):
        await cancel_at_every_step(steps, world=five, check=check)


async def fails_by_itself() -> None:
    await trio.lowlevel.checkpoint()
    raise AssertionError("by itself")


async def goes_on_for_ever() -> None:
    await trio.sleep_forever()


@contextlib.contextmanager
def never_well() -> Iterator[None]:
    yield
    raise AssertionError("never well")


@pytest.mark.parametrize(
    ("scenario", "options"),
    [
        pytest.param(fails_by_itself, {}, id="scenario"),
        pytest.param(goes_on_for_ever, {}, id="endless"),
        pytest.param(steps, {"check": fails_by_itself}, id="check"),
        pytest.param(steps, {"invariants": [never_well]}, id="invariant"),
    ],
)
async def test_what_fails_without_any_cancel_says_so(
    scenario: Callable[..., Any], options: dict[str, Any], autojump_clock: trio.testing.MockClock
) -> None:
    """An error came out as it was, and who read it looked for a cancel that had not come."""
    with pytest.raises(AssertionError) as caught:
        await cancel_at_every_step(scenario, **options)
    assert caught.value.__notes__ == [
        "This was the run that a sweep leaves alone: nothing has been cancelled yet."
    ]


# -------------------------------------------------------------------------------------------- the simulation


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"program": 5}, "the program must be a function, got 5"),
        ({"program": takes_nothing}, "the program is called with a Simulation, and takes_nothing"),
        ({"seeds": 5}, r"seeds are several, range\(5\) or \[5\], and not 5"),
        ({"seeds": ["a"]}, "a seed must be an int, got 'a'"),
        ({"weather": "storm"}, "must be a Weather, such as STORM, or a function that gives one; got 'storm'"),
    ],
)  # fmt: skip
def test_a_simulation_says_which_argument_is_of_the_wrong_kind(arguments: dict[str, Any], told: str) -> None:
    with pytest.raises(TypeError, match=told):
        simulate(**({"program": steps} | arguments))


def test_a_simulated_program_that_is_not_async_is_told() -> None:
    with pytest.raises(AssertionError, match="must be an async function, and nothing is not"):
        simulate(nothing, seeds=[0])  # type: ignore[arg-type]


def test_a_simulation_of_no_seeds_has_tried_nothing_and_says_so() -> None:
    """It passed: a filter that let no seed through was a green test."""
    with pytest.raises(ValueError, match=r"there are no seeds in range\(0, 0\): nothing was tried"):
        simulate(steps, seeds=range(0))


def test_a_function_that_gives_no_weather_is_told_by_the_dial() -> None:
    async def program(simulation: Simulation) -> None:
        simulation.network.listen("a", 80)
        await simulation.network.dial("a", 80)

    with pytest.raises(AssertionError, match="given as weather must return a Weather, and returned None"):
        simulate(program, seeds=[0], weather=nothing)  # type: ignore[arg-type]


async def test_a_host_that_is_a_url_is_refused(autojump_clock: trio.testing.MockClock) -> None:
    async with SimulatedNetwork() as network:
        with pytest.raises(ValueError, match="no URL; got 'http://a'"):
            network.listen("http://a", 80)
        with pytest.raises(ConnectionRefusedError, match="a:80 was refused: nobody listens there"):
            await network.dial("a", 80)
        network.weather = Weather(dial_refused=1)
        network.listen("a", 80)
        with pytest.raises(ConnectionRefusedError, match="a:80 was refused: by the weather"):
            await network.dial("a", 80)


def test_the_script_of_a_weather_has_mishaps_in_it() -> None:
    with pytest.raises(TypeError, match="a list of Mishap, got 'reset'"):
        Weather(script="reset")


# ----------------------------------------------------------------------------------------------- the scripts


@pytest.mark.parametrize(
    ("add", "told"),
    [
        (lambda: Script().send("hello"), "data must be bytes, got 'hello': b'hello'"),  # type: ignore[arg-type]
        (lambda: Script().send("é"), "data must be bytes, got 'é'$"),  # type: ignore[arg-type]
        (lambda: Script().send_bytewise("a"), "data must be bytes"),  # type: ignore[arg-type]
        (lambda: Script().send_slowly("a", each=1, seconds=1), "data must be bytes"),  # type: ignore[arg-type]
        (lambda: Script().expect("a"), "data must be bytes"),  # type: ignore[arg-type]
        (lambda: Script().expect_until("\n"), r"marker must be bytes"),  # type: ignore[arg-type]
        (lambda: Script().expect_until(b"\n", startswith="GET"), "startswith must be bytes"),  # type: ignore[arg-type]
        (lambda: Script().expect_until_end(contains="a"), "contains must be bytes"),  # type: ignore[arg-type]
        (lambda: Script().call(5), "what a script calls must be a function, got 5"),  # type: ignore[arg-type]
        (lambda: Script().repeat(3, Script()), r"expected a Script.*, got 3"),  # type: ignore[arg-type]
        (lambda: Script().repeat(Script().send(b"a"), "3"), "times must be an int, got '3'"),  # type: ignore[arg-type]
        (lambda: Script().then(b"a"), r"expected a Script, such as Script\(\)\.send.*, got b'a'"),  # type: ignore[arg-type]
    ],
)  # fmt: skip
def test_a_step_that_could_not_be_played_is_not_added(add: Callable[[], Script], told: str) -> None:
    with pytest.raises(TypeError, match=told):
        add()


async def app(_: object) -> Response:
    return Response(204)


async def test_what_is_no_script_is_not_played() -> None:
    with pytest.raises(TypeError, match=r"expected a Script, .*, got \[<Script: nothing>\]"):
        async with open_scripted_server([Script()]):  # type: ignore[arg-type]
            pass
    with pytest.raises(TypeError, match=r"expected a Script, .*, got b'GET'"):
        await play_to_handler(app, b"GET")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"expected a Script, .*, got b'GET'"):
        await play_to(("localhost", 80), b"GET")  # type: ignore[arg-type]


async def test_a_destination_that_is_a_url_or_nowhere_is_named() -> None:
    with pytest.raises(ValueError, match="the path of a Unix socket, not a URL: 'http://localhost:80'"):
        await play_to("http://localhost:80", Script())
    with pytest.raises(OSError, match="localhost:80") as caught:
        await play_to("localhost:80", Script())
    assert caught.value.filename == "localhost:80"


# ---------------------------------------------------------------------------------------------- the fixtures


def test_what_the_fixtures_are_given_is_looked_at(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A connection left open on the network of the fixture used to end in an error that nobody had made."""
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)
    pytester.makeini("[pytest]\ntrio_mode = true\n")
    pytester.makepyfile(
        """
        from trio_http import Client

        async def test_a_connection_may_be_left_open(simulated_network, autojump_clock):
            simulated_network.listen("a", 80)
            await simulated_network.dial("a", 80)

        async def test_a_class_is_no_manager(keep_open):
            await keep_open(Client)
        """
    )
    result = pytester.runpytest_subprocess()
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["*TypeError: keep_open takes an async context manager, *; got <*"])
