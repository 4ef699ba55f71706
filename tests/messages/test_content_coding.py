"""Content codings: names, whole contents in any pieces, and what each coding allows (C31, C38)."""

from __future__ import annotations

import gzip
import pickle
import random
import sys
import types
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tests.messages.coded import TEXT, decoded, drained, encoded
from trio_http.messages import _content_coding as names
from trio_http.messages._content_coding import (
    ContentCodingError,
    ContentTooExpanded,
    accept_encoding,
    parse_content_encoding,
    supported_codings,
)
from trio_http.messages._content_decoder import ContentDecoder, decoder_for
from trio_http.messages._content_encoder import ContentEncoder

CODINGS = ("zstd", "br", "gzip", "deflate")  # all modules are installed where the tests run


def forget_modules() -> None:
    for remembered in (
        names.brotli_module,
        names.zstd_module,
        names.supported_codings,
        names.accept_encoding,
    ):
        remembered.cache_clear()


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """An installation without extras."""
    for name in ("brotli", "compression", "compression.zstd", "backports.zstd", "zstandard"):
        monkeypatch.setitem(sys.modules, name, None)
    forget_modules()
    yield monkeypatch
    monkeypatch.undo()
    forget_modules()


# ------------------------------------------------------------------------------------------------------ names


def test_all_four_codings_are_supported_where_their_modules_are() -> None:
    """C38: gzip, deflate, br and zstd."""
    assert supported_codings() == CODINGS
    assert accept_encoding() == b"zstd, br, gzip, deflate"


def test_without_modules_gzip_and_deflate_remain(bare: pytest.MonkeyPatch) -> None:
    assert supported_codings() == ("gzip", "deflate")
    assert accept_encoding() == b"gzip, deflate"
    assert decoder_for(b"br") is None
    assert decoder_for(b"zstd") is None
    with pytest.raises(
        ValueError, match=r"'br', expected one of gzip, deflate; .* install trio-http\[brotli\]"
    ):
        ContentEncoder("br")
    with pytest.raises(ValueError, match=r"trio-http\[zstd\]"):
        ContentDecoder(["gzip", "zstd"])


def test_a_brotli_that_cannot_bound_its_output_counts_as_absent(bare: pytest.MonkeyPatch) -> None:
    old: Any = types.ModuleType("brotli")
    old.Decompressor = type("Decompressor", (), {"process": lambda self, data: b""})
    bare.setitem(sys.modules, "brotli", old)
    forget_modules()
    assert "br" not in supported_codings()


@pytest.mark.parametrize(
    ("value", "codings"),
    [
        (b"gzip", ("gzip",)),
        (b"X-GZip", ("gzip",)),
        (b"br, gzip", ("br", "gzip")),
        (b" , deflate\t,identity,, zstd ,", ("deflate", "zstd")),
        (b"identity", ()),
        (b"", ()),
        (b"compress", ("compress",)),
    ],
)
def test_the_field_names_codings_in_the_order_they_were_applied(
    value: bytes, codings: tuple[str, ...]
) -> None:
    assert parse_content_encoding(value) == codings


@pytest.mark.parametrize("value", [b"", b"identity", b"compress", b"gzip, made-up", b"\xe9", b"gzip;q=1"])
def test_content_that_is_not_coded_or_in_a_way_unknown_to_us_has_no_decoder(value: bytes) -> None:
    assert decoder_for(value) is None


def test_a_long_chain_of_codings_is_refused_also_when_they_are_unknown() -> None:
    assert decoder_for(b", ".join([b"gzip"] * 5)) is not None
    for name in (b"gzip", b"x" * 500):
        with pytest.raises(
            ContentCodingError, match="one of 6 applied in turn, expected at most 5"
        ) as caught:
            decoder_for(b", ".join([name] * 6))
        assert len(str(caught.value)) < 150


@pytest.mark.parametrize("max_ratio", [0, 0.5, -1, float("nan")])
def test_a_ratio_below_one_is_refused(max_ratio: float) -> None:
    with pytest.raises(ValueError, match="max_ratio must be at least 1"):
        decoder_for(b"gzip", max_ratio=max_ratio)


def test_a_decoder_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one coding"):
        ContentDecoder([])


def test_errors_keep_their_facts_and_pickle() -> None:
    error = pickle.loads(pickle.dumps(ContentCodingError("gzip", "it is malformed")))
    assert (str(error), error.coding) == ("content in coding gzip: it is malformed", "gzip")
    grown = pickle.loads(pickle.dumps(ContentTooExpanded("br", 10, 9000, 200.0)))
    assert (grown.received, grown.produced, grown.max_ratio) == (10, 9000, 200.0)
    assert "10 bytes grow to 9000 or more, expected at most 200 times" in str(grown)


# ------------------------------------------------------------------------------------ contents, in any pieces

# Some that hardly shrink, some that shrink to nothing, and some longer than one step.
CONTENTS = st.one_of(
    st.binary(max_size=2000),
    st.builds(lambda piece, times: piece * times, st.binary(min_size=1, max_size=50), st.integers(0, 4000)),
    st.builds(lambda seed, size: random.Random(seed).randbytes(size), st.integers(), st.integers(0, 300_000)),
)
CHAINS = st.lists(st.sampled_from(CODINGS), min_size=1, max_size=4)


@given(content=CONTENTS, codings=CHAINS, data=st.data())
def test_any_pieces_and_any_takes_give_the_same_content(
    content: bytes, codings: list[str], data: st.DataObject
) -> None:
    """C38, and C31: what the encoders make, in pieces of any size, the decoders undo."""
    coded = encoded(content, *codings)
    cuts = data.draw(st.lists(st.integers(0, len(coded)), max_size=8).map(sorted), "cuts")
    takes = data.draw(st.lists(st.integers(1, 200_000), min_size=1, max_size=5), "takes")
    decoder = ContentDecoder(codings, max_ratio=None)
    got = bytearray()
    takings = 0
    for start, end in zip([0, *cuts], [*cuts, len(coded)], strict=True):
        decoder.feed(coded[start:end])
        while piece := decoder.take(bound := takes[takings % len(takes)]):
            assert len(piece) <= bound
            got += piece
            takings += 1
    decoder.finish()
    assert bytes(got) == content


@pytest.mark.parametrize("coding", CODINGS)
def test_a_byte_at_a_time_gives_the_same_content(coding: str) -> None:
    coded = encoded(TEXT, coding)
    assert decoded((coded[at : at + 1] for at in range(len(coded))), coding) == TEXT


@pytest.mark.parametrize("coding", CODINGS)
def test_every_proper_prefix_is_incomplete(coding: str) -> None:
    """A truncated stream is an error: no part of a content looks like the whole."""
    for content in (b"", b"x", TEXT[:300]):
        coded = encoded(content, coding)
        for length in range(1, len(coded)):
            with pytest.raises(ContentCodingError, match=f"{coding}: it is incomplete.* {length} bytes"):
                decoded([coded[:length]], coding)
        assert decoded([coded], coding) == content


@given(content=CONTENTS, codings=CHAINS, share=st.floats(0, 1, exclude_max=True))
def test_a_prefix_of_a_content_in_several_codings_is_incomplete(
    content: bytes, codings: list[str], share: float
) -> None:
    coded = encoded(content, *codings)
    length = int(len(coded) * share)
    assume(length > 0)
    with pytest.raises(ContentCodingError, match="incomplete"):
        decoded([coded[:length]], *codings)


def test_an_inner_coding_that_is_cut_is_incomplete_though_the_outer_one_is_whole() -> None:
    for cut in (0, 5, -1):
        inner = encoded(TEXT, "gzip")[:cut]
        with pytest.raises(ContentCodingError, match="incomplete") as caught:
            decoded([encoded(inner, "zstd")], "gzip", "zstd")
        assert caught.value.coding == "gzip"


@given(st.sampled_from(CODINGS), st.binary(min_size=1, max_size=300))
def test_any_bytes_are_a_content_or_the_documented_error(coding: str, junk: bytes) -> None:
    try:
        decoded([junk], coding)
        blamed = coding
    except ContentCodingError as error:
        blamed = error.coding
    assert blamed == coding


@given(codings=CHAINS, at=st.floats(0, 1, exclude_max=True), flip=st.integers(1, 255))
def test_a_flipped_byte_gives_a_content_or_the_documented_error(
    codings: list[str], at: float, flip: int
) -> None:
    coded = bytearray(encoded(TEXT[:3000], *codings))
    coded[int(at * len(coded))] ^= flip
    try:
        decoded([bytes(coded)], *codings)
    except ContentCodingError:
        pass


# -------------------------------------------------------------------------------------- the life of a decoder


def test_no_content_at_all_is_no_error() -> None:
    """The answer to a HEAD, a 304, or a Content-Length of 0, each under a Content-Encoding."""
    for coding in CODINGS:
        decoder = ContentDecoder([coding])
        assert decoder.take() == b""
        decoder.feed(b"")
        decoder.finish()
        decoder.finish()
        assert decoder.take() == b""


def test_what_is_left_must_be_taken_before_the_end() -> None:
    decoder = ContentDecoder(["gzip"])
    decoder.feed(encoded(TEXT, "gzip"))
    assert decoder.take(10) == TEXT[:10]
    with pytest.raises(RuntimeError, match="content is left"):
        decoder.finish()
    assert drained(decoder) == TEXT[10:]
    decoder.finish()
    with pytest.raises(RuntimeError, match="was finished"):
        decoder.feed(b"more")


def test_what_was_fed_but_never_decoded_is_left_too() -> None:
    decoder = ContentDecoder(["br"])
    decoder.feed(encoded(b"content", "br"))
    with pytest.raises(RuntimeError, match="content is left"):
        decoder.finish()
    assert drained(decoder) == b"content"
    decoder.finish()


def test_good_content_comes_before_the_error_and_nothing_after_it() -> None:
    decoder = ContentDecoder(["gzip"])
    decoder.feed(encoded(b"good", "gzip") + b"\x1f\x8bbad")
    assert decoder.take() == b"good"
    with pytest.raises(ContentCodingError, match="gzip: it is malformed"):
        decoder.take()
    for call in (decoder.take, decoder.finish, lambda: decoder.feed(b"x")):
        with pytest.raises(RuntimeError, match="an earlier error"):
            call()


@pytest.mark.parametrize(
    ("bound", "error"), [(0, ValueError), (-1, ValueError), (1.5, TypeError), ("1", TypeError)]
)
def test_a_bound_that_is_none_is_refused_and_changes_nothing(bound: Any, error: type[Exception]) -> None:
    decoder = ContentDecoder(["gzip"])
    decoder.feed(encoded(b"abc", "gzip"))
    with pytest.raises(error):
        decoder.take(bound)
    assert decoder.take() == b"abc"


def test_content_comes_as_soon_as_its_sender_has_flushed_it() -> None:
    for coding in CODINGS:
        encoder = ContentEncoder(coding)
        decoder = ContentDecoder([coding])
        for event in (b"data: one\n\n", b"data: two\n\n", TEXT * 5):
            decoder.feed(encoder.encode(event) + encoder.flush())
            assert drained(decoder) == event, coding
        decoder.feed(encoder.finish())
        assert drained(decoder) == b""
        decoder.finish()


# ------------------------------------------------------------------------------------------- gzip and deflate


def test_gzip_may_have_several_members_and_zeros_behind_them() -> None:
    members = gzip.compress(b"one, ", mtime=0) + gzip.compress(b"") + gzip.compress(b"two")
    assert decoded([members], "gzip") == b"one, two"
    assert decoded([members, bytes(20_000), bytes(3)], "gzip") == b"one, two"


@pytest.mark.parametrize("cut", [0, 1, 10, 18])
@pytest.mark.parametrize("garbage", [b"garbage", b"\0\0garbage", b"\0\x1f\x8b\x08"])
def test_garbage_behind_gzip_is_an_error_however_it_comes(garbage: bytes, cut: int) -> None:
    coded = gzip.compress(b"content")
    rest = coded[cut:] + garbage
    for pieces in ([coded[:cut], rest], [coded, *(garbage[at : at + 1] for at in range(len(garbage)))]):
        with pytest.raises(ContentCodingError, match="follow its end"):
            decoded(pieces, "gzip")


def test_a_second_member_that_is_cut_is_incomplete() -> None:
    member = gzip.compress(b"content")
    for length in range(1, len(member)):
        with pytest.raises(ContentCodingError, match="incomplete"):
            decoded([member + member[:length]], "gzip")


@pytest.mark.parametrize("wbits", [15, 9, -15, -9])
@pytest.mark.parametrize("level", [0, 1, 9])
def test_deflate_is_taken_with_and_without_the_format_of_zlib(wbits: int, level: int) -> None:
    for content in (b"", b"x", TEXT):
        deflate = zlib.compressobj(level, wbits=wbits)
        coded = deflate.compress(content) + deflate.flush()
        assert decoded([coded], "deflate") == content
        assert decoded([coded[:1], coded[1:2], coded[2:]], "deflate") == content
        for length in {1, len(coded) // 2, len(coded) - 1}:
            with pytest.raises(ContentCodingError, match="incomplete"):
                decoded([coded[:length]], "deflate")


@pytest.mark.parametrize("coding", ["deflate", "br"])
def test_garbage_behind_a_stream_is_an_error_however_it_comes(coding: str) -> None:
    coded = encoded(TEXT, coding)
    for pieces in ([coded + b"x"], [coded, b"x"]):
        with pytest.raises(ContentCodingError, match="follow its end"):
            decoded(pieces, coding)


def test_a_wrong_checksum_is_an_error() -> None:
    for coding in ("gzip", "deflate"):
        coded = bytearray(encoded(TEXT, coding))
        coded[-5 if coding == "gzip" else -1] ^= 1
        with pytest.raises(ContentCodingError, match=r"malformed.*check"):
            decoded([bytes(coded)], coding)


def test_deflate_that_needs_a_dictionary_is_an_error() -> None:
    deflate = zlib.compressobj(zdict=b"a dictionary that we do not have")
    with pytest.raises(ContentCodingError, match="malformed"):
        decoded([deflate.compress(b"a dictionary") + deflate.flush()], "deflate")


# --------------------------------------------------------------------------------------------------- encoders


def test_other_programs_understand_what_is_encoded() -> None:
    """C31: request compression."""
    import brotli  # type: ignore[import-untyped]
    import zstandard

    assert gzip.decompress(encoded(TEXT, "gzip")) == TEXT
    assert zlib.decompress(encoded(TEXT, "deflate")) == TEXT
    assert brotli.decompress(encoded(TEXT, "br")) == TEXT
    assert zstandard.ZstdDecompressor().decompressobj().decompress(encoded(TEXT, "zstd")) == TEXT
    for coding in CODINGS:
        assert encoded(TEXT, coding) == encoded(TEXT, coding)  # no clock in it
        assert len(encoded(TEXT, coding)) < len(TEXT) / 3


@pytest.mark.parametrize("coding", ["identity", "GZIP", "x-gzip", "compress", ""])
def test_an_unknown_coding_is_refused_and_those_there_are_named(coding: str) -> None:
    with pytest.raises(ValueError, match=f"'{coding}', expected one of zstd, br, gzip, deflate$"):
        ContentEncoder(coding)
    with pytest.raises(ValueError, match=f"'{coding}', expected one of zstd, br, gzip, deflate$"):
        ContentDecoder([coding])


@pytest.mark.parametrize("coding", CODINGS)
def test_nothing_comes_after_the_end(coding: str) -> None:
    encoder = ContentEncoder(coding)
    assert decoded([encoder.finish()], coding) == b""
    calls: list[Callable[[], bytes]] = [lambda: encoder.encode(b"x"), encoder.flush, encoder.finish]
    for call in calls:
        with pytest.raises(RuntimeError, match=f"this {coding} content was finished"):
            call()
