"""The same bytes through ours, h11 and httptools: every difference is in the table, and the table is true and
narrow."""

from __future__ import annotations

import pathlib
import random
import re

import h11
import pytest

import trio_http.wire as wire
from tests.wire import differences
from tests.wire.corpus import CORPUS, Input, mutated
from tests.wire.differences import HTTPTOOLS, RECEIVED, ROWS, SEEN, SENT, Row, explanations
from tests.wire.differential import (
    Difference,
    Message,
    check,
    compare,
    differences_of,
    run_events,
    run_httptools,
)
from tests.wire.sight import Sight

SEED = 20261122
# Some two seconds' worth; `fuzz.py` is for more.
MUTATIONS = 3000
HERE = pathlib.Path(__file__).parent


def test_the_corpus_is_large_and_has_both_roles() -> None:
    assert len({(item.data, item.method) for item in CORPUS if item.method is None}) >= 200
    assert len({(item.data, item.method) for item in CORPUS if item.method is not None}) >= 200


@pytest.mark.parametrize("role", ["server", "client"])
def test_every_difference_on_the_corpus_is_in_the_table(role: str) -> None:
    rng = random.Random(SEED)
    faults = []
    for item in CORPUS:
        if (item.method is None) is (role == "server"):
            faults += check(item, rng).faults
    assert faults == [], "\n".join(faults)


@pytest.mark.parametrize("part", range(10))
def test_every_difference_on_mutated_inputs_is_in_the_table(part: int) -> None:
    rng = random.Random(SEED + part)
    faults = []
    for _ in range(MUTATIONS // 10):
        faults += check(mutated(rng), rng).faults
    assert faults == [], f"seed {SEED + part}\n" + "\n".join(faults)


def test_the_mutations_are_repeated_by_their_seed() -> None:
    one, two = random.Random(1), random.Random(1)
    assert [mutated(one) for _ in range(50)] == [mutated(two) for _ in range(50)]


@pytest.mark.parametrize("row", [*RECEIVED, *HTTPTOOLS], ids=lambda row: row.id)
def test_the_example_of_a_row_shows_its_difference(row: Row) -> None:
    for peer in row.peers:
        example = row.example_httptools if peer == "httptools" and row.example_httptools else row.example
        found = {
            d.peer: [each.id for each in explanations(d)] for d in differences_of(Input(example, row.method))
        }
        assert row.id in found.get(peer, []), f"{peer}: {found}"


@pytest.mark.parametrize("row", [row for row in RECEIVED if row.leniency], ids=lambda row: row.id)
def test_the_leniency_of_a_row_takes_its_difference_away(row: Row) -> None:
    item = Input(row.example, row.method)
    lenient = run_events(wire, item, lenient=frozenset([wire.Leniency[row.leniency]]))
    assert lenient.verdict == "closed"
    left = compare("h11", item, lenient, run_events(h11, item))
    # Two leniencies repair what h11 passes on as it is: their message differs, and is accepted.
    repaired = {"BOTH_FRAMINGS": "content-length", "MINOR_VERSION": "1.2"}.get(row.leniency)
    assert (left is None) is (repaired is None)
    if left is not None:
        assert left.kind == "facts"
        assert repaired in str(left.theirs).lower()
        assert repaired not in str(left.ours).lower()


def test_every_leniency_but_those_on_what_h11_refuses_too_is_in_the_table() -> None:
    named = {row.leniency for row in RECEIVED if row.leniency}
    # h11 has no bytes above 0x7F in a target either.
    assert {leniency.name for leniency in wire.Leniency} - named == {"NON_ASCII_TARGET"}


@pytest.mark.parametrize("row", [*RECEIVED, *HTTPTOOLS], ids=lambda row: row.id)
def test_no_row_excuses_a_plain_message(row: Row) -> None:
    """A row that held for messages without its feature would hide faults in them."""
    plain = [
        Input(b"GET / HTTP/1.1\r\nHost: a\r\nAccept: */*\r\n\r\n"),
        Input(b"POST / HTTP/1.1\r\nHost: a:80\r\nContent-Length: 3\r\n\r\nabc"),
        Input(
            b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
            b"3;a=b\r\na\nb\r\n0\r\nX: y\r\n\r\n"
        ),
        Input(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\na\x01\n", b"GET"),
        Input(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n", b"POST"),
    ]
    for item in plain:
        ours = run_events(wire, item)
        assert ours.verdict == "closed"
        # As if h11 had refused what we accept, or the reverse.
        for kind in ("strict", "lenient"):
            assert row.holds is not None
            made_up = Sight(_made_up(item, kind))
            assert not row.holds(made_up), item


def _made_up(item: Input, kind: differences.Kind) -> Difference:
    outcome = run_events(wire, item)
    return Difference("h11", kind, item, 0, item.data, outcome, outcome)


@pytest.mark.parametrize("peer", ["h11", "httptools"])
@pytest.mark.parametrize("fault", ["body", "field", "target", "refused", "smuggled", "trailer"])
def test_a_fault_of_ours_would_be_found(peer: str, fault: str) -> None:
    item = Input(
        b"POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX: y\r\n\r\n"
        b"GET /b HTTP/1.1\r\nHost: a\r\n\r\n"
    )
    ours = run_events(wire, item)
    theirs = run_events(h11, item) if peer == "h11" else run_httptools(item)
    assert compare(peer, item, ours, theirs) is None
    first, second = ours.messages
    match fault:
        case "body":
            first.body = b"ab"
        case "field":
            del first.fields[0]
        case "target":
            second.start = b"GET", b"/", b"1.1"
        case "trailer":
            first.trailers = []
        case "refused":
            ours.messages = [first]
            ours.verdict, ours.error = "rejected", wire.RemoteProtocolError("no reason")
        case "smuggled":
            ours.messages.append(Message((b"GET", b"/c", b"1.1"), []))
            ours.messages[-1].complete = True
            ours.begins.append(len(item.data))
    difference = compare(peer, item, ours, theirs)
    assert difference is not None
    assert explanations(difference) == []


def test_every_row_on_sending_and_on_what_a_program_sees_has_a_test() -> None:
    source = "".join(path.read_text(encoding="utf-8") for path in HERE.glob("test_h11_*.py"))
    named = set(re.findall(r'\brow\("([^"]+)"\)', source))
    assert {row.id for row in (*SENT, *SEEN)} <= named
    assert named <= set(ROWS)


def test_no_two_rows_share_a_name() -> None:
    assert len(ROWS) == len(RECEIVED) + len(HTTPTOOLS) + len(SENT) + len(SEEN)


def test_the_reference_page_is_up_to_date() -> None:
    written = differences.PAGE.read_text(encoding="utf-8")
    assert written == differences.page(), "run python tests/wire/differences.py"
