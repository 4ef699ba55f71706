"""A plugin of pytest: fixtures for tests with pytest-trio, and options for sweeps and simulations.

It is found by pytest where this package is installed, and imports next to nothing before a test asks for it.
The fixtures need pytest-trio.

Options of the command line:

- ``--sweep-seed=N``: the seed of every sweep that has none of its own; another order of the tasks may find
  another defect.
- ``--sweep-only="12 waiting"``: one cancel point alone, as a failure names it.
- ``--sweep-report=FILE``: write what every sweep has tried, as JSON.
- ``--simulation-seeds=N``, ``--simulation-first=N``: how many runs the tests make that ask for the fixture
  ``simulation_seeds``, and from which seed on.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, TypeVar

import attrs
import pytest

if TYPE_CHECKING:
    import trio

    from trio_http.client import Client
    from trio_http.testing import SimulatedNetwork, SweepReport

T = TypeVar("T")

OpenClient: TypeAlias = "Callable[..., Awaitable[Client]]"


class KeepOpen(Protocol):
    """What the fixture ``keep_open`` is."""

    async def __call__(self, manager: AbstractAsyncContextManager[T]) -> T:
        """Enter ``manager``; return what it gives.

        Cancellation: as entering it.
        """
        ...


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options."""
    group = parser.getgroup("trio-http", "sweeps of cancels, and simulations")
    group.addoption("--sweep-seed", type=int, default=None, metavar="N", help="seed of sweeps that have none")
    group.addoption(
        "--sweep-only", default=None, metavar="KEY", help="one cancel point alone, such as '12 waiting'"
    )
    group.addoption(
        "--simulation-seeds", type=int, default=100, metavar="N", help="how many runs a simulation makes"
    )
    group.addoption(
        "--simulation-first", type=int, default=0, metavar="N", help="the first of a simulation's seeds"
    )
    group.addoption(
        "--sweep-report", default=None, metavar="FILE", help="write what sweeps have tried, as JSON"
    )


def pytest_configure(config: pytest.Config) -> None:
    """Hand the options on, and begin to listen."""
    config.stash[_TALLY] = _Tally()
    seed, only = config.getoption("sweep_seed"), config.getoption("sweep_only")
    if seed is not None or only is not None:
        from trio_http.testing import sweep_defaults  # deferred import: most runs do without the package

        sweep_defaults.seed = seed or 0
        sweep_defaults.only = only


@attrs.frozen
class _Entry:
    """What the sweeps of one test have tried."""

    test: str
    scenario: str
    steps: int
    points: int
    failures: int
    moments: dict[str, int]
    seed: int
    markers: list[str]


class _Tally:
    """What the sweeps of this run have tried so far."""

    def __init__(self) -> None:
        self.entries: list[_Entry] = []

    def add(self, item: pytest.Item, report: SweepReport) -> None:
        moments: Counter[str] = Counter(point.moment for point in report.points)
        self.entries.append(
            _Entry(
                item.nodeid,
                report.scenario,
                report.steps,
                len(report.points),
                len(report.failures),
                dict(moments),
                report.seed,
                sorted({marker.name for marker in item.iter_markers()}),
            )
        )


_TALLY: pytest.StashKey[_Tally] = pytest.StashKey()
_SWEEPS = "trio_http_sweeps"  # by this name one process hands its entries to another


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """Listen to the sweeps of one test."""
    testing = sys.modules.get("trio_http.testing")  # a test without it sweeps nothing
    if testing is None:
        return (yield)
    tally = item.config.stash[_TALLY]
    with testing.watch_sweeps(lambda report: tally.add(item, report)):
        return (yield)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Where pytest-xdist has given the tests to several processes, hand on what this one has swept."""
    output = getattr(session.config, "workeroutput", None)
    if output is not None:
        output[_SWEEPS] = [attrs.asdict(entry) for entry in session.config.stash[_TALLY].entries]


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Take what another process has swept; one that has crashed has handed on nothing."""
    output = getattr(node, "workeroutput", None) or {}
    node.config.stash[_TALLY].entries += [_Entry(**entry) for entry in output.get(_SWEEPS, ())]


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Say in one line what all sweeps have tried; write the report that was asked for."""
    entries = config.stash[_TALLY].entries
    if entries:
        points, failures = (sum(getattr(entry, name) for entry in entries) for name in ("points", "failures"))
        terminalreporter.write_line(
            f"cancellation sweeps: {len(entries)} scenarios, {points} cancel points, {failures} failures"
        )
    path = config.getoption("sweep_report")
    if path is not None:
        Path(path).write_text(json.dumps([attrs.asdict(entry) for entry in entries], indent=1), "utf-8")


# --------------------------------------------------------------------------------------------------- fixtures


@pytest.fixture
async def keep_open(nursery: trio.Nursery) -> AsyncIterator[KeepOpen]:
    """A function that enters an async context manager, which is left when the test is over.

    ::

        async def test_the_shop_is_closed(keep_open):
            server = await keep_open(open_scripted_server(script))
            ...

    Each is entered and left in a task of its own, so that one with a nursery in it is none of the test's.
    They are left in the reverse order; what one raises then fails the test.
    """
    import trio  # deferred import: only tests with trio come here

    kept: list[tuple[trio.Event, trio.Event]] = []

    async def keep(manager: AbstractAsyncContextManager[Any], task_status: trio.TaskStatus[Any]) -> None:
        leave, left = trio.Event(), trio.Event()
        try:
            async with manager as value:
                kept.append((leave, left))
                task_status.started(value)
                await leave.wait()
        finally:
            left.set()

    async def enter(manager: AbstractAsyncContextManager[T]) -> T:
        if not isinstance(manager, AbstractAsyncContextManager):
            raise TypeError(f"keep_open takes an async context manager, like `async with`; got {manager!r}")
        value: T = await nursery.start(keep, manager)
        return value

    yield enter
    for leave, left in reversed(kept):
        leave.set()
        await left.wait()


@pytest.fixture
def open_http_client(keep_open: KeepOpen) -> OpenClient:
    """A function that opens a `Client` which leads to a handler, and is closed when the test is over.

    ::

        async def test_the_page_says_hello(open_http_client):
            client = await open_http_client(app)
            assert (await client.get("/")).text == "hello"

    Its arguments are those of `trio_http.testing.open_client`.
    """
    from trio_http.testing import open_client  # deferred import: only tests that ask for it come here

    async def open_it(handler: Any, **options: Any) -> Client:
        return await keep_open(open_client(handler, **options))

    return open_it


@pytest.fixture
async def simulated_network(request: pytest.FixtureRequest) -> AsyncIterator[SimulatedNetwork]:
    """A `SimulatedNetwork` in clear weather; its streams are closed when the test is over.

    Its seed is ``--simulation-first``, or 0; a test that fails tells it. Ask for a clock that jumps, too.
    """
    from trio_http.testing import SimulatedNetwork  # deferred import: as above

    seed = request.config.getoption("simulation_first")
    request.node.add_report_section("setup", "simulated network", f"seed {seed}")
    async with SimulatedNetwork(seed=seed) as network:
        yield network


@pytest.fixture
def simulation_seeds(request: pytest.FixtureRequest) -> range:
    """The seeds for `simulate`: ``--simulation-seeds`` of them, or 100, from ``--simulation-first``, or 0."""
    first = request.config.getoption("simulation_first")
    return range(first, first + request.config.getoption("simulation_seeds"))


@pytest.fixture
def no_leaks() -> Iterator[None]:
    """See that the test leaves no descriptor and no stream in memory open, and drops nothing unclosed.

    For a whole file: ``pytestmark = pytest.mark.usefixtures("no_leaks")``.
    """
    from trio_http.testing import (  # deferred import: as above
        no_descriptor_left,
        no_resource_warning,
        no_stream_left,
    )

    with no_resource_warning(), no_descriptor_left(), no_stream_left():
        yield
