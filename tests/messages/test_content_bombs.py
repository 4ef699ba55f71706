"""Content that grows: how little is held of it, and when it is refused (C39)."""

from __future__ import annotations

import gzip
import tracemalloc

import pytest

from tests.messages.coded import MIB, TEXT, decoded, drained, encoded, zeros
from trio_http.messages._coded_streams import STEP_BYTES, coded_stream
from trio_http.messages._content_coding import FREE_BYTES, MAX_RATIO, ContentTooExpanded
from trio_http.messages._content_decoder import ContentDecoder, decoder_for

# What the zeros are coded by first, and all codings that the field names.
BOMBS = [
    pytest.param("zstd", ("zstd",), id="zstd"),
    pytest.param("br", ("br",), id="br"),
    pytest.param("gzip", ("gzip",), id="gzip"),
    pytest.param("deflate", ("deflate",), id="deflate"),
    pytest.param("raw", ("deflate",), id="raw-deflate"),
    pytest.param("gzip", ("gzip", "gzip"), id="gzip-gzip"),
    pytest.param("br", ("br", "zstd"), id="br-zstd"),
    pytest.param("raw", ("deflate", "br", "gzip"), id="deflate-br-gzip"),
]


def drained_to_nowhere(decoder: ContentDecoder) -> tuple[int, int]:
    """How much was taken, and the largest piece of it."""
    total = largest = 0
    while piece := decoder.take(1 << 30):
        total += len(piece)
        largest = max(largest, len(piece))
    return total, largest


@pytest.mark.parametrize(("kind", "codings"), BOMBS)
def test_a_bomb_is_refused_before_it_has_grown_much(kind: str, codings: tuple[str, ...]) -> None:
    """C39: 1 GiB of zeros, whole or in pieces."""
    coded = encoded(zeros(kind, 1024), *codings[1:])
    for piece_bytes in (len(coded), 1000):
        decoder = decoder_for(", ".join(codings).encode())
        assert decoder is not None
        total = fed = 0
        tracemalloc.start()
        try:
            with pytest.raises(ContentTooExpanded) as caught:
                for at in range(0, len(coded), piece_bytes):
                    decoder.feed(coded[at : at + piece_bytes])
                    fed += len(coded[at : at + piece_bytes])
                    total += drained_to_nowhere(decoder)[0]
            held = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        error = caught.value
        assert error.coding in codings
        assert error.max_ratio == MAX_RATIO
        assert error.received <= fed
        assert error.produced > FREE_BYTES + MAX_RATIO * error.received
        assert total <= FREE_BYTES + MAX_RATIO * error.received
        assert held < 3 * MIB


@pytest.mark.parametrize(("kind", "codings"), BOMBS)
def test_without_a_limit_a_bomb_is_decoded_to_its_end_in_little_memory(
    kind: str, codings: tuple[str, ...]
) -> None:
    mebibytes = 96
    coded = encoded(zeros(kind, mebibytes), *codings[1:])
    decoder = ContentDecoder(codings, max_ratio=None)
    tracemalloc.start()
    try:
        decoder.feed(coded)
        total, largest = drained_to_nowhere(decoder)
        decoder.finish()
        held = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert total == mebibytes * MIB
    assert largest <= 2 * STEP_BYTES
    assert held < 2 * MIB


@pytest.mark.parametrize("kind", ["zstd", "br", "gzip", "deflate", "raw"])
def test_one_step_of_a_stream_is_bounded_whatever_it_is_given(kind: str) -> None:
    coded = zeros(kind, 96)
    stream = coded_stream("deflate" if kind == "raw" else kind)
    assert 0 < len(stream.decode(coded)) <= 2 * STEP_BYTES
    steps = [len(stream.decode(b"")) for _ in range(96 * MIB // STEP_BYTES + 1)]
    assert max(steps) <= 2 * STEP_BYTES
    assert stream.complete
    assert 0 in steps


def test_a_million_empty_members_in_a_coding_are_refused_though_they_come_to_nothing() -> None:
    """C39: what keeps a decoder busy counts, not only what comes out of it."""
    inner = gzip.compress(b"", mtime=0) * 1_000_000
    coded = encoded(inner, "zstd")
    assert len(coded) < 10_000
    decoder = ContentDecoder(["gzip", "zstd"])
    decoder.feed(coded)
    with pytest.raises(ContentTooExpanded) as caught:
        decoder.take()
    assert caught.value.coding == "gzip"


def test_empty_frames_and_members_that_were_received_one_by_one_are_no_attack() -> None:
    members = gzip.compress(b"", mtime=0) * 20_000 + gzip.compress(b"end")
    assert decoded([members], "gzip", max_ratio=MAX_RATIO) == b"end"


def test_a_small_content_may_grow_as_it_likes() -> None:
    for kind in ("zstd", "br", "gzip"):
        mebibytes = FREE_BYTES // MIB
        assert decoded([zeros(kind, mebibytes)], kind, max_ratio=1) == bytes(FREE_BYTES)


def test_ordinary_content_stays_within_the_limit_and_the_limit_can_be_set() -> None:
    text = TEXT * (2 * FREE_BYTES // len(TEXT))
    coded = encoded(text, "gzip")
    assert decoded([coded], "gzip", max_ratio=MAX_RATIO) == text
    decoder = ContentDecoder(["gzip"], max_ratio=1.5)
    decoder.feed(coded)
    with pytest.raises(ContentTooExpanded, match=r"expected at most 1\.5 times as many"):
        drained(decoder)


def test_a_large_piece_costs_no_more_than_many_small_ones() -> None:
    """zlib copies what it has not used yet after each step: with one large piece the time would be quadratic.

    Counted in bytes that it is given, not in seconds.
    """
    decoder = ContentDecoder(["gzip"], max_ratio=None)
    given: list[int] = []
    layer = decoder._layers[0]
    decode = layer._stream.decode

    class Counting:
        frames = 0
        complete = True

        def decode(self, data: bytes) -> bytes:
            given.append(len(data))
            return decode(data)

    layer._stream = Counting()
    coded = zeros("gzip", 128)
    decoder.feed(coded)
    assert drained_to_nowhere(decoder)[0] == 128 * MIB
    assert sum(given) == len(coded)
    assert max(given) <= 16384
