"""Content gathered piece by piece."""

from __future__ import annotations

import tracemalloc

import pytest

from trio_http.messages import Pieces


@pytest.mark.parametrize("count", [0, 1, 2, 999, 1000, 1001, 2500])
def test_pieces_are_joined_in_their_order(count: int) -> None:
    pieces = Pieces()
    expected = [b"%d," % number for number in range(count)]
    for piece in expected:
        pieces.add(piece)
    assert pieces.joined() == b"".join(expected)


def test_one_piece_is_not_copied() -> None:
    pieces, piece = Pieces(), bytes(100)
    pieces.add(piece)
    assert pieces.joined() is piece


def test_small_pieces_take_little_more_room_than_their_bytes() -> None:
    tracemalloc.start()
    pieces = Pieces()
    for number in range(100_000):
        pieces.add(b"%05d" % number)  # new objects, as those of a connection are
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held < 2 * 500_000
