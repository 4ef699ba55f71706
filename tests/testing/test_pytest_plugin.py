"""The plugin of pytest, as a project that has installed this package meets it."""

from __future__ import annotations

import json

import pytest

pytest_plugins = ["pytester"]

SWEEP = """
    import trio
    from trio_http.testing import cancel_at_every_step

    async def test_a_pair_of_checkpoints():
        async def scenario():
            await trio.lowlevel.checkpoint()
            await trio.lowlevel.checkpoint()

        await cancel_at_every_step(scenario)
"""

CARELESS = """
    import trio
    from trio_http.testing import cancel_at_every_step

    taken = []

    async def test_a_slot():
        async def scenario():
            await trio.lowlevel.checkpoint()
            taken.append("slot")
            await trio.lowlevel.checkpoint()
            taken.clear()

        def check():
            lost, taken[:] = list(taken), []
            assert not lost, "a slot is lost"

        await cancel_at_every_step(scenario, check=check)
"""


@pytest.fixture
def run(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)
    pytester.makeini("[pytest]\ntrio_mode = true\n")
    return pytester


def test_the_summary_says_what_was_swept(run: pytest.Pytester) -> None:
    run.makepyfile(SWEEP)
    result = run.runpytest_subprocess()
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["cancellation sweeps: 1 scenarios, 8 cancel points, 0 failures"])


def test_what_was_swept_in_several_processes_is_added_up(run: pytest.Pytester) -> None:
    """With pytest-xdist the summary used to be left out, and the report to be empty."""
    pytest.importorskip("xdist", reason="pytest-xdist is not installed")
    run.makepyfile(test_one=SWEEP, test_other=SWEEP)
    result = run.runpytest_subprocess("-n", "2", "--sweep-report=report.json")
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(["cancellation sweeps: 2 scenarios, 16 cancel points, 0 failures"])
    entries = json.loads((run.path / "report.json").read_text("utf-8"))
    assert sorted(entry["test"].partition("::")[0] for entry in entries) == ["test_one.py", "test_other.py"]
    assert {entry["steps"] for entry in entries} == {3}


def test_a_run_without_sweeps_says_nothing_and_imports_nothing(run: pytest.Pytester) -> None:
    run.makepyfile(
        """
        import sys

        def test_nothing_of_the_package_is_imported_but_the_plugin():
            ours = {name for name in sys.modules if name.partition(".")[0] == "trio_http"}
            assert ours == {"trio_http", "trio_http.pytest_plugin"}
        """
    )
    result = run.runpytest_subprocess()
    result.assert_outcomes(passed=1)
    result.stdout.no_fnmatch_line("*cancellation sweeps*")


def test_the_report_has_an_entry_for_each_sweep(run: pytest.Pytester) -> None:
    run.makepyfile(test_it=SWEEP, test_other=CARELESS)
    result = run.runpytest_subprocess("--sweep-report=sweeps.json", "--sweep-seed=7")
    result.assert_outcomes(passed=1, failed=1)
    good, bad = json.loads((run.path / "sweeps.json").read_text("utf-8"))
    assert good == {
        "test": "test_it.py::test_a_pair_of_checkpoints",
        "scenario": "test_a_pair_of_checkpoints.<locals>.scenario",
        "steps": 3,
        "points": 8,
        "failures": 0,
        "moments": {"woken": 3, "waiting": 2, "deadline": 3},
        "seed": 7,
        "markers": ["trio"],
    }
    assert (bad["test"], bad["failures"], bad["seed"]) == ("test_other.py::test_a_slot", 1, 7)


def test_a_failing_point_is_run_alone_by_its_key(run: pytest.Pytester) -> None:
    run.makepyfile(CARELESS)
    result = run.runpytest_subprocess()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*to run it alone: only='2 waiting', seed=0*"])

    result = run.runpytest_subprocess("--sweep-only=2 waiting")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["cancellation sweeps: 1 scenarios, 1 cancel points, 1 failures"])
    result = run.runpytest_subprocess("--sweep-only=1 waiting")
    result.assert_outcomes(passed=1)
    result = run.runpytest_subprocess("--sweep-only=nowhere")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*named by its step and its moment, such as '12 waiting', got 'nowhere'*"])


def test_a_client_is_opened_for_a_test_and_closed_after_it(run: pytest.Pytester) -> None:
    run.makepyfile(
        """
        import trio_http

        kept = []

        async def app(request):
            return trio_http.Response(text=f"hello from {request.path}")

        async def test_the_page_says_hello(open_http_client):
            client = await open_http_client(app, base_url="http://example.org")
            other = await open_http_client(app)
            kept.extend([client, other])
            assert (await client.get("/a")).text == "hello from /a"
            assert (await other.get("/b")).text == "hello from /b"

        async def test_it_was_closed():
            for client in kept:
                try:
                    await client.get("/again")
                except trio_http.PoolClosed:
                    continue
                raise AssertionError("it is still open")
        """
    )
    run.runpytest_subprocess().assert_outcomes(passed=2)


def test_what_is_kept_open_is_left_in_the_reverse_order_after_the_test(run: pytest.Pytester) -> None:
    run.makepyfile(
        """
        import contextlib
        import trio

        order = []

        @contextlib.asynccontextmanager
        async def opened(name):
            async with trio.open_nursery() as nursery:
                order.append(f"enter {name}")
                yield name
                await trio.lowlevel.checkpoint()
                order.append(f"leave {name}")

        async def test_both_are_open(keep_open):
            assert [await keep_open(opened("a")), await keep_open(opened("b"))] == ["a", "b"]
            order.append("test")

        def test_both_were_left():
            assert order == ["enter a", "enter b", "test", "leave b", "leave a"]
        """
    )
    run.runpytest_subprocess().assert_outcomes(passed=2)


def test_a_script_that_is_not_played_to_its_end_fails_the_test(run: pytest.Pytester) -> None:
    run.makepyfile(
        """
        import trio
        from trio_http import Client
        from trio_http.testing import Script, open_scripted_server

        SCRIPT = Script().expect_until(b"\\r\\n\\r\\n").send(b"HTTP/1.1 204 No Content\\r\\n\\r\\n")

        async def test_asked(keep_open, autojump_clock):
            server = await keep_open(open_scripted_server(SCRIPT, over="memory"))
            async with Client(dial=server.dial) as client:
                assert (await client.get(server.url)).status == 204

        async def test_not_asked(keep_open, autojump_clock):
            await keep_open(open_scripted_server(SCRIPT, over="memory"))
        """
    )
    result = run.runpytest_subprocess()
    assert result.parseoutcomes()["passed"] == 1
    assert sum(result.parseoutcomes().get(how, 0) for how in ("failed", "errors")) == 1


def test_a_simulated_network_has_the_seed_that_was_asked_for(run: pytest.Pytester) -> None:
    run.makepyfile(
        """
        from trio_http.testing import simulate

        async def test_nobody_listens(simulated_network, autojump_clock):
            try:
                await simulated_network.dial("a", 80)
            except ConnectionRefusedError:
                raise AssertionError("as it should be") from None

        def test_seeds(simulation_seeds):
            async def program(simulation):
                assert simulation.seed in range(40, 43)

            assert simulate(program, seeds=simulation_seeds).runs == 3
        """
    )
    result = run.runpytest_subprocess("--simulation-first=40", "--simulation-seeds=3")
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["*simulated network*", "seed 40"])


def test_what_a_test_leaves_open_fails_it(run: pytest.Pytester) -> None:
    run.makepyfile(
        """
        import socket
        import pytest
        from trio_http.testing import memory_pair

        pytestmark = pytest.mark.usefixtures("no_leaks")
        held = []

        async def test_clean():
            for end in memory_pair():
                await end.aclose()

        async def test_a_stream():
            held.append(memory_pair())

        def test_a_socket():
            held.append(socket.socket())
        """
    )
    result = run.runpytest_subprocess("-W", "ignore")
    result.assert_outcomes(passed=3, errors=2)
    result.stdout.fnmatch_lines(["*streams in memory were left open*", "*descriptors were left open*"])


def test_the_fixtures_are_described(run: pytest.Pytester) -> None:
    result = run.runpytest_subprocess("--fixtures")
    for name in ("keep_open", "open_http_client", "simulated_network", "simulation_seeds", "no_leaks"):
        result.stdout.fnmatch_lines([f"{name}*", "    ?*"])
