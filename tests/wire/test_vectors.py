"""Run the conformance vectors of ``vectors/`` (form: `vector_format.py`) on both faces of the wire layer.

Each vector is run whole, byte by byte, at random splits, and, where its verdict says what must become of
them, with further bytes behind it. All these runs, on both faces, must give the same events and write the
same bytes.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable

import pytest

import trio_http.wire as wire
from tests.wire.vector_format import Vector, VectorError, escape, load_vectors, parse_file
from tests.wire.vector_run import FACES, Run, check, expected_of, play, random_cuts

VECTORS = {vector.id: vector for vector in load_vectors()}

# Rows of the feature table's wire part (W1-W57) that no vector can touch, and what covers them instead.
ROWS_ELSEWHERE = {
    "W46": "the state machine is walked over all joint states in test_h11_states.py",
    "W49": "our client does not pipeline: a rule for what is sent",
}

NEXT_REQUEST = b"GET /next HTTP/1.1\r\nHost: example.com\r\n\r\n"
NEXT_REQUEST_LINES = ["Request GET /next 1.1", "  Host: example.com", "EndOfMessage"]
NEXT_RESPONSE = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"

each_face = pytest.mark.parametrize("face", FACES)


def each_vector(accepts: Callable[[Vector], bool] = lambda vector: True) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("name", [name for name, vector in VECTORS.items() if accepts(vector)])


# -- the vectors ---------------------------------------------------------------------------------------------


@each_face
@each_vector()
def test_vector_given_whole(name: str, face: str) -> None:
    vector = VECTORS[name]
    check(play(vector, face), face, "whole")


@each_face
@each_vector()
def test_vector_given_byte_by_byte(name: str, face: str) -> None:
    vector = VECTORS[name]
    check(play(vector, face, range(len(vector.data))), face, "byte by byte")


@each_face
@each_vector(lambda vector: len(vector.data) > 1)
def test_vector_given_at_random_splits(name: str, face: str) -> None:
    vector = VECTORS[name]
    for seed, cuts in random_cuts(vector):
        check(play(vector, face, cuts), face, f"cut at {cuts}, which came from the seed {seed}")


@each_vector()
def test_vector_makes_both_faces_write_the_same(name: str) -> None:
    vector = VECTORS[name]
    runs = [play(vector, face) for face in FACES]
    for run in runs:
        run.finish()
    assert runs[0].sent == runs[1].sent


@each_face
@each_vector(lambda vector: vector.role == "server" and vector.verdict == "IDLE" and not vector.eof)
def test_request_behind_a_complete_one_is_held_until_that_is_answered(name: str, face: str) -> None:
    vector = VECTORS[name]
    before = expected_of(vector, face)[:-1]
    requests = before.count("EndOfMessage")
    run = Run(vector, FACES[face], hold=requests - 1)
    run.feed(vector.data + NEXT_REQUEST)
    held = run.finish()
    assert held[-1] == f'PAUSED "{escape(NEXT_REQUEST)}"'
    assert held[:-1] == before[: len(held) - 1]
    assert held.count("EndOfMessage") == requests
    run.release()
    after = run.finish()
    assert after[: len(before) + len(NEXT_REQUEST_LINES)] == before + NEXT_REQUEST_LINES
    assert after[-1] == "IDLE"


@each_face
@each_vector(lambda vector: vector.role == "server" and vector.verdict == "MUST_CLOSE" and not vector.eof)
def test_request_behind_the_last_one_is_refused(name: str, face: str) -> None:
    vector = VECTORS[name]
    for cuts in ([], [len(vector.data)]):
        actual = play(vector, face, cuts, behind=NEXT_REQUEST).finish()
        assert actual == [*expected_of(vector, face)[:-1], "error 400 RFC 9112 §9.6"]


@each_face
@each_vector(lambda vector: vector.role == "client" and vector.verdict in ("IDLE", "MUST_CLOSE"))
def test_response_behind_the_last_one_is_refused(name: str, face: str) -> None:
    vector = VECTORS[name]
    for cuts in ([], [len(vector.data)]):
        for behind in (NEXT_RESPONSE, NEXT_RESPONSE[:1], b"x"):
            actual = play(vector, face, cuts, behind=behind).finish()
            assert actual == [*expected_of(vector, face)[:-1], "error RFC 9112 §9.2"]


@each_face
@each_vector(lambda vector: vector.verdict == "SWITCHED_PROTOCOL" and not vector.eof)
def test_bytes_behind_a_switch_of_protocols_are_all_handed_over(name: str, face: str) -> None:
    vector = VECTORS[name]
    actual = play(vector, face, behind=NEXT_REQUEST).finish()
    *before, last = expected_of(vector, face)
    assert actual == [*before, f'{last[:-1]}{escape(NEXT_REQUEST)}"']


@each_face
@each_vector(lambda vector: vector.verdict == "error" and not vector.eof)
def test_error_is_the_same_whatever_follows_and_stays(name: str, face: str) -> None:
    vector = VECTORS[name]
    end = len(vector.data)
    for run in (
        play(vector, face, behind=NEXT_REQUEST),
        play(vector, face, [end], behind=NEXT_REQUEST),
        play(vector, face, eof=True),
    ):
        check(run, face, "with more behind it")
        assert run.conn.their_state is wire.ERROR
        with pytest.raises(wire.RemoteProtocolError):
            run.face.step()


@each_face
@each_vector(lambda vector: vector.role == "server" and vector.verdict == "error")
def test_error_can_be_answered_with_its_hint_and_a_close(name: str, face: str) -> None:
    """The answer says "close": a sender that intends to close should say so (RFC 9112 §9.6)."""
    run = play(VECTORS[name], face)
    assert run.error is not None
    assert len(str(run.error)) > 10
    if run.conn.our_state not in (wire.IDLE, wire.SEND_RESPONSE):
        # The last answer of the connection has been sent, and has said that it closes.
        assert run.error.section == "RFC 9112 §9.6"
        return
    out = run.face.send_response(run.error.error_status_hint, [(b"Content-Length", b"0")])
    assert out.startswith(b"HTTP/1.1 %d " % run.error.error_status_hint)
    assert run.conn.states[wire.SERVER] is wire.MUST_CLOSE
    assert b"\r\nconnection: close\r\n" in out.lower()


# -- the set of vectors --------------------------------------------------------------------------------------


def test_ids_are_unique_and_many() -> None:
    counts = Counter(vector.id for vector in load_vectors())
    assert [name for name, count in counts.items() if count > 1] == []
    assert len(counts) >= 180


def test_vectors_touch_every_row_of_the_wire_table() -> None:
    touched = {row for vector in VECTORS.values() for row in vector.rows}
    known = {f"W{number}" for number in range(1, 58)} - {"W11"} | {"W11a", "W11b"}
    assert known - touched == set(ROWS_ELSEWHERE)
    assert touched <= known


def test_lenient_vectors_have_a_strict_twin_with_the_same_bytes() -> None:
    for vector in VECTORS.values():
        if vector.twin is not None:
            twin = VECTORS[vector.twin]
            assert not twin.lenient
            assert (twin.data, twin.eof, twin.role) == (vector.data, vector.eof, vector.role)


def test_every_leniency_makes_a_difference_in_some_vector() -> None:
    telling = set()
    for vector in VECTORS.values():
        if vector.twin is not None and vector.events != VECTORS[vector.twin].events:
            [name] = vector.lenient
            telling.add(name)
    assert telling == {leniency.name for leniency in wire.Leniency}


def test_every_limit_has_a_vector_exactly_at_it_and_one_just_over() -> None:
    edges = {vector.edge for vector in VECTORS.values() if vector.edge is not None}
    names = set(wire.Limits.__dataclass_fields__)
    assert edges == {(name, side) for name in names for side in ("at", "over")}
    for vector in VECTORS.values():
        if vector.edge is not None:
            assert (vector.verdict == "error") == (vector.edge[1] == "over"), vector.id


def test_input_over_a_limit_is_within_the_next_higher_one() -> None:
    """So that "just over" is one, and not many."""
    for vector in VECTORS.values():
        if vector.edge is not None and vector.edge[1] == "over":
            name = vector.edge[0]
            higher = dataclasses.replace(vector, limits={name: vector.limits[name] + 1})
            for face in FACES:
                run = play(higher, face)
                assert run.error is None, f"{vector.id}: {run.error}"


# -- the parser: it must refuse, or a slip in a vector passes as a test --------------------------------------

GOOD = """# Title

A paragraph about the subject of this file, which is long enough to say what its vectors are about.

## SOME-ID

- Section: RFC 9112 §3
- Level: MUST
- Role: server

A sentence that says why this vector matters at all.

```http
GET / HTTP/1.1\\r\\n
\\{a*3}\\x00\\EOF
```

```events
error 400 RFC 9112 §3
```
"""


def test_parser_reads_bytes_as_documented() -> None:
    [vector] = parse_file("good", GOOD)
    assert (vector.id, vector.data, vector.eof) == ("SOME-ID", b"GET / HTTP/1.1\r\naaa\x00", True)
    assert vector.events == ("error 400 RFC 9112 §3",)


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("## SOME-ID", "## some id"),
        ("- Level: MUST", "- Level: must"),
        ("- Level: MUST", "- Levels: MUST"),
        ("- Role: server", "- Role: server\n- Role: server"),
        ("- Section: RFC 9112 §3\n", ""),
        ("RFC 9112 §3\n- Level", "RFC9112 3\n- Level"),
        ("- Role: server", "- Role: server\n- Request: GET"),
        ("- Role: server", "- Role: server\n- Lenient: BARE_LF"),
        ("- Role: server", "- Role: server\n- Edge: max_fields at"),
        ("A sentence that says why this vector matters at all.", "Short."),
        ("\\x00", "\\q"),
        ("\\x00", "\\x0"),
        ("\\x00", "é"),
        ("\\r\\n\n", "\\r\\n \n"),
        ("\\x00\\EOF", "\\EOF\\x00"),
        ("error 400", "eror 400"),
        ("error 400 RFC 9112 §3", "EndOfMessage"),
        ("```http", "```text"),
        ("```events", "```http"),
        ("# Title", "Title"),
    ],
)
def test_parser_refuses_what_is_not_in_the_format(right: str, wrong: str) -> None:
    assert right in GOOD
    with pytest.raises(VectorError):
        parse_file("bad", GOOD.replace(right, wrong, 1))
