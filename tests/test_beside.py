"""The comparison beside other servers: what it claims of ours holds, and its judges can find fault.

It is a program of its own, benchmarks/beside.py, with each server in a further process. What it says of the
other servers is looked at there and not here: a new release of one of them may change it.
"""

from __future__ import annotations

import importlib
import importlib.util
import re
import socket
import struct
import sys
from pathlib import Path
from types import ModuleType

import pytest
import trio

from tests.interop.programs import run

pytestmark = pytest.mark.interop

BENCHMARKS = Path(__file__).resolve().parent.parent / "benchmarks"
PROGRAM = [sys.executable, str(BENCHMARKS / "beside.py")]
SECONDS = 110.0  # a quiet machine takes a fifth of it

#: What the survey says that no other server has, or few; each must be looked at.
ROWS = set("N2 N3 N4 N5 N7 N9 N12 N13 N14 N20 N25 N26".split())
ROWS |= set("S6 S9 S22 S25 S29 S31 S32 S33 S43 S44 S53 S54".split())


@pytest.fixture
def beside(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The program as a module, beside which those of its folder can be imported."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    monkeypatch.syspath_prepend(str(BENCHMARKS / "beside"))
    return importlib.import_module("beside")


@pytest.fixture
def raw(beside: ModuleType) -> ModuleType:
    return importlib.import_module("_raw")


# ------------------------------------------------------------------------------------------ the whole program


async def test_each_claim_about_our_server_holds(beside: ModuleType) -> None:
    for _ in range(3):
        done = await run([*PROGRAM, "--quick", "--server", "ours"], seconds=SECONDS)
        if done.returncode != 1:
            break
        # Most claims have a time in them, and a machine that stood still for a second tells nothing.
        # What fails each time is.
    output = done.stdout.decode()
    assert done.returncode == 0, output + done.stderr.decode()
    rows = [line for line in output.splitlines() if line.startswith("| ")][2:]
    assert [row.split(" | ")[0][2:] for row in rows] == [claim.text for claim in beside.CLAIMS]
    assert all(row.split(" | ")[2].startswith("yes: ") for row in rows)


async def test_what_a_peer_does_not_do_is_a_figure_and_no_failure() -> None:
    command = [*PROGRAM, "--quick", "--server", "ours,hypercorn", "--only", "103,systemd"]
    done = await run(command, seconds=SECONDS)
    output = done.stdout.decode()
    assert done.returncode == 0, output + done.stderr.decode()
    assert re.search(r"\n\| 103 .* \| yes: .* \| (\*\*no\*\*|yes): ", output)
    assert re.search(r"\n\| systemd.* \| yes: .* \| - \[\d+\] \|\n", output)
    assert "all 2 claims hold of ours" in output


async def test_a_server_that_is_not_known_is_refused() -> None:
    done = await run([*PROGRAM, "--server", "none"], seconds=SECONDS)
    assert done.returncode == 2
    assert b"no such server: none" in done.stderr


# ----------------------------------------------------------------------------------------------- what is said


def test_each_row_that_nobody_else_has_is_looked_at(beside: ModuleType) -> None:
    assert set(", ".join(claim.rows for claim in beside.CLAIMS).split(", ")) >= ROWS


def test_our_server_is_run_for_each_claim_and_no_two_claims_are_called_the_same(beside: ModuleType) -> None:
    assert not [claim.text for claim in beside.CLAIMS if "ours" in claim.without]
    assert len({claim.text for claim in beside.CLAIMS}) == len(beside.CLAIMS)


def test_a_peer_without_a_way_is_said_to_be_so_by_a_file_that_it_has(beside: ModuleType) -> None:
    named = set()
    for claim in beside.CLAIMS:
        for name, why in claim.without.items():
            files = re.findall(rf"\b{name}/[\w/.]*\w", why)
            assert files, (claim.text, name)
            named.update(files)
    for file in sorted(named):
        package, _, rest = file.partition("/")
        found = importlib.util.find_spec(package)
        if found is not None and found.origin is not None:
            assert (Path(found.origin).parent / rest).exists(), file


def table(beside: ModuleType, **cells: object) -> str:
    """The table of one claim, which "absent" could not be asked about and "without" has no way to do."""
    claim = beside.Claim("it flies", "N0", None, {"without": "it has no wings"})
    servers = ["ours", "without", "absent"]
    text: str = beside.Table(servers, {"absent": "no module absent"}).render(
        [claim], {("it flies", name): cell for name, cell in cells.items()}
    )
    return text


def test_a_table_says_what_was_seen_and_below_it_why_something_was_not(beside: ModuleType) -> None:
    assert table(beside, ours=beside.Cell(True, "2 m | 3 m", "with wind")) == (
        "| claim | rows | ours | without | absent |\n"
        "| --- | --- | --- | --- | --- |\n"
        "| it flies | N0 | yes: 2 m \\| 3 m [1] | - [2] | absent [3] |\n"
        "\n"
        "1. ours: with wind\n"
        "2. without: it has no wings\n"
        "3. absent: no module absent"
    )


@pytest.mark.parametrize("breaks", [False, True])
async def test_a_claim_that_does_not_hold_of_ours_or_breaks_is_the_exit_status(
    beside: ModuleType, breaks: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    async def measure(run: object, name: str) -> object:
        if breaks:
            raise ExceptionGroup("", [ValueError("no wind")])
        return beside.Cell(name != "ours", "0 m")

    claim = beside.Claim("it flies", "N0", measure)
    shared = {"ours": None, "hypercorn": None}
    found: dict[tuple[str, str], object] = {}
    await beside.look_at_all([claim], beside.Run(True, shared, ()), found)
    assert beside.judge([claim], found) == 1
    said = capsys.readouterr().out
    assert "DOES NOT HOLD: it flies: " in said
    assert ("no wind" if breaks else "0 m") in said
    assert beside.judge([claim], {("it flies", "ours"): beside.Cell(True, "1 m")}) == 0


# --------------------------------------------------------------------------------------------- how it is seen


async def answered(raw: ModuleType, *pieces: bytes) -> object:
    """What the comparison's client makes of an answer that comes in these pieces, and then the end."""
    client, server = trio.testing.memory_stream_pair()
    connection = raw.Raw(client, None)
    async with trio.open_nursery() as nursery:

        async def serve() -> None:
            for piece in pieces:
                await server.send_all(piece)
                await trio.testing.wait_all_tasks_blocked()
            await server.aclose()

        nursery.start_soon(serve)
        found: object = await connection.answer()
    return found


CHUNKED = (
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\ntw\r\n1;x\r\no\r\n0\r\nX-Sum: 17\r\n\r\n"
)


@pytest.mark.parametrize("size", [1, 7, 1000])
async def test_an_answer_is_read_with_its_trailers_whatever_the_pieces(raw: ModuleType, size: int) -> None:
    pieces = [CHUNKED[start : start + size] for start in range(0, len(CHUNKED), size)]
    fields = {b"transfer-encoding": b"chunked"}
    assert await answered(raw, *pieces) == raw.Answer(200, fields, b"two", {b"x-sum": b"17"})


async def test_an_answer_that_is_cut_off_is_not_whole(raw: ModuleType) -> None:
    assert not (await answered(raw, CHUNKED[:-1])).whole
    with pytest.RaisesGroup(raw.Cut):
        await answered(raw, b"HTTP/1.1 200 OK\r\n")


@pytest.mark.parametrize("how", ["FIN", "RST"])
async def test_the_end_of_a_connection_is_seen_without_reading_what_lies_before_it(
    raw: ModuleType, how: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        connection = await raw.connect(listener.getsockname()[1])
        accepted, _ = listener.accept()
    accepted.sendall(b"unread")
    assert connection.ended() is None
    if how == "RST":
        accepted.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    accepted.close()
    assert (await connection.wait_ended(5))[0] == how
    connection.close()


async def test_what_the_kernel_holds_is_counted(raw: ModuleType) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        connection = await raw.connect(port)
        accepted, _ = listener.accept()
    with accepted:
        accepted.sendall(b"unread")
        local = connection.sock.getsockname()[1]
        assert raw.queued(local, port)[1] == 6
        assert await connection.more() == b"unread"
        assert raw.queued(local, port) == (0, 0)
        connection.close()
