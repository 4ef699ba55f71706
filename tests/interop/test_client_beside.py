"""Our client in the scenes that tell clients apart, and the others in those that every client has to pass.

beside_clients.py has the scenes, and prints a table of what each client does in them. Nothing here depends on
another client doing something badly: its next release may do it well.
"""

from __future__ import annotations

import sys

import pytest

import trio_http
from tests.interop import beside_clients as beside
from tests.interop.beside_clients import AIOHTTP, CONNECTIONS, HTTPX, OURS, PATIENCE, PEERS, UPLOAD
from tests.interop.programs import run

pytestmark = pytest.mark.interop


# --------------------------------------------------------------------------------------------- what ours does


async def test_a_413_comes_through_while_the_server_reads_no_more() -> None:
    """C27: who sends everything before it reads waits for ever here."""
    seen = await beside.early_413(OURS)
    [told] = seen.told
    assert (told.status, told.content) == (413, b"too large")
    assert told.sent < UPLOAD


async def test_content_goes_out_after_a_time_when_no_100_comes() -> None:
    """C28: 0.3 s is what the scene sets; a server may know nothing of Expect (RFC 9110 §10.1.1)."""
    seen = await beside.expect_unanswered(OURS)
    assert seen.wire["expected"]
    assert 0.25 < seen.wire["waited"] < PATIENCE
    assert seen.told[0].content == b"taken"


async def test_content_stays_here_when_the_server_answers_417() -> None:
    """C28."""
    seen = await beside.expect_refused(OURS)
    assert seen.told[0].status == 417
    assert seen.wire["content"] == b""


async def test_a_get_that_meets_a_closing_connection_is_sent_once_more() -> None:
    """C6: on another connection."""
    seen = await beside.stale("GET", OURS)
    assert [told.status for told in seen.told] == [200, 200]
    assert seen.wire["asked"] == [0, 0, 1]


async def test_a_post_that_meets_a_closing_connection_is_not_sent_again_and_says_what_is_known() -> None:
    """C6: the server did read it, and only its caller can know whether twice does harm."""
    seen = await beside.stale("POST", OURS)
    assert seen.wire["asked"] == [0, 0]
    error = seen.told[1].exception
    assert isinstance(error, trio_http.ConnectionLost)
    facts = error.facts
    assert (facts.method, facts.reused, facts.may_have_acted) == ("POST", True, True)
    assert not facts.response_started


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_the_pool_is_whole_after_many_cancels(seed: int) -> None:
    """C8, C57, C58: every connection that it may have can be used at once."""
    seen = await beside.churn(OURS, seed=seed)
    assert seen.wire["cancelled"] > 20
    assert seen.wire["whole"] == CONNECTIONS


async def test_response_trailers_are_there() -> None:
    """C35."""
    seen = await beside.trailers(OURS)
    assert (seen.told[0].content, seen.told[0].trailers) == (b"hi", {"x-sum": "17"})


async def test_a_103_is_seen_and_is_not_taken_for_the_answer() -> None:
    """C36."""
    seen = await beside.early_hints(OURS)
    assert (seen.told[0].status, seen.told[0].interim) == (200, [103])


# ----------------------------------------------------------------------------------- that the scenes are fair


@pytest.fixture(params=PEERS)
def peer(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    if why := beside.absent(name):
        pytest.skip(f"{name} is not installed: {why}")
    return name


async def test_another_client_passes_where_nothing_is_asked_of_it_but_http(peer: str) -> None:
    """If it did not, it would be the scene that is at fault, or how the client is asked."""
    assert (await beside.trailers(peer)).told[0].content == b"hi"
    assert (await beside.early_hints(peer)).told[0].content == b"here"
    first, _ = (await beside.stale("POST", peer)).told
    assert first.status == 200


async def test_another_client_says_expect_when_asked_to_and_its_requests_are_cancelled(peer: str) -> None:
    assert (await beside.expect_unanswered(peer)).wire["expected"]
    assert (await beside.churn(peer, requests=40)).wire["cancelled"] > 0


@pytest.mark.parametrize("name", [OURS, HTTPX, AIOHTTP])
async def test_a_client_that_gets_nothing_does_not_hold_the_scene_up(name: str) -> None:
    if why := beside.absent(name):
        pytest.skip(f"{name} is not installed: {why}")

    async def say_nothing(wire: beside.Wire) -> None:
        await wire.head()
        await wire.head()

    async with beside.serving(say_nothing) as url, beside.open_caller(name) as caller:
        told = await caller.ask("GET", url, seconds=0.2)
    assert (told.status, told.error) == (0, "nothing in 0.2 s")


# ------------------------------------------------------------------------------------------------- the table


async def test_the_table_has_a_line_for_each_scene() -> None:
    done = await run([sys.executable, "-m", "tests.interop.beside_clients", OURS])
    assert done.returncode == 0, done.stderr.decode()
    lines = [line for line in done.stdout.decode().splitlines() if line.startswith("| ")][2:]
    assert [line.split(" | ")[0][2:] for line in lines] == list(beside.SCENES)
    assert " | 413 after " in lines[0]


async def test_a_client_that_is_not_known_is_refused() -> None:
    done = await run([sys.executable, "-m", "tests.interop.beside_clients", "none"])
    assert done.returncode == 2
    assert b"no such client: none" in done.stderr


def test_a_client_that_is_not_installed_is_said_to_be_absent() -> None:
    assert beside.absent("no_such_library") == "No module named 'no_such_library'"
    assert beside.absent(OURS) == ""


def test_a_table_has_a_column_for_each_client() -> None:
    cells = {(scene, name): f"{name} did" for scene in beside.SCENES for name in (OURS, HTTPX)}
    first, rule, *rows = beside.table([OURS, HTTPX], cells).splitlines()
    assert (first, rule) == ("|  | ours | httpx |", "| --- | --- | --- |")
    assert all(row.endswith(" | ours did | httpx did |") for row in rows)
    assert len(rows) == len(beside.SCENES)


@pytest.mark.parametrize("row", ["C6", "C8", "C27", "C28", "C35", "C36"])
def test_each_row_of_the_survey_where_clients_differ_on_the_wire_has_a_scene(row: str) -> None:
    assert any(text.endswith(f"({row})") for text in beside.SCENES)
