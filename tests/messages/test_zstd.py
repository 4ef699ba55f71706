"""zstd by each module that does it: frames of all shapes, windows, and what is no frame (C38)."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any, TypeAlias

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from tests.messages.coded import MIB, TEXT
from trio_http.messages._coded_streams import STEP_BYTES, CodedStream, ZstdBlocks, ZstdFrames
from trio_http.messages._content_coding import ContentCodingError

MakeStream: TypeAlias = Callable[[], CodedStream]


def stream_of(module: str) -> CodedStream:
    zstd: Any = importlib.import_module(module)
    return ZstdBlocks(zstd) if module == "zstandard" else ZstdFrames(zstd)


def installed(module: str) -> bool:
    try:
        importlib.import_module(module)
    except ImportError:
        return False
    return True


#: Each module that brings zstd, as far as it is installed; one always is.
MODULES = [name for name in ("compression.zstd", "backports.zstd", "zstandard") if installed(name)]


@pytest.fixture(params=MODULES)
def make(request: pytest.FixtureRequest) -> MakeStream:
    return lambda: stream_of(request.param)


def decoded(stream: CodedStream, *pieces: bytes) -> bytes:
    content = b""
    for piece in pieces:
        output = stream.decode(piece)
        while output:
            assert len(output) <= 2 * STEP_BYTES
            content += output
            output = stream.decode(b"")
    return content


def bytewise(coded: bytes) -> list[bytes]:
    return [coded[at : at + 1] for at in range(len(coded))]


def skippable(content: bytes, number: int = 0) -> bytes:
    return (0x184D2A50 + number).to_bytes(4, "little") + len(content).to_bytes(4, "little") + content


def block(content: bytes, kind: int = 0, size: int | None = None, *, last: bool = False) -> bytes:
    """A block by hand (RFC 8878 §3.1.1.2): kind 0 is raw, 1 one byte repeated ``size`` times."""
    size = len(content) if size is None else size
    return (last | kind << 1 | size << 3).to_bytes(3, "little") + content


# Magic number, and a header with a window of 1 MiB and nothing else.
HEAD = b"\x28\xb5\x2f\xfd" + b"\x00" + bytes([10 << 3])

FRAMES = {
    "plain": zstandard.ZstdCompressor(write_content_size=False).compress(TEXT),
    "with a checksum": zstandard.ZstdCompressor(write_checksum=True).compress(TEXT),
    **{
        f"with a length of {length}": zstandard.ZstdCompressor(write_content_size=True).compress(
            (TEXT * (1 + length // len(TEXT)))[:length]
        )
        for length in (0, 1, 255, 256, 65_791, 65_792, 300_000)
    },
    "with a dictionary id of 0": HEAD[:4] + b"\x03" + HEAD[5:] + bytes(4) + block(TEXT, last=True),
    "of raw blocks": HEAD + block(TEXT[:1000]) + block(b"") + block(TEXT[1000:9000]) + block(b"", last=True),
    "of a repeated byte": HEAD
    + block(b"a", 1, 131_072)
    + block(b"b", 1, 131_072)
    + block(b"c", 1, 5, last=True),
    "of a byte repeated no times": HEAD + block(b"a", 1, 0) + block(b"x", last=True),
    "with one to skip before": skippable(b"skip me") + zstandard.compress(b"content"),
    "with two to skip behind": zstandard.compress(b"content") + skippable(b"") + skippable(bytes(70_000), 15),
    "three in a row": b"".join(map(zstandard.compress, (b"one, ", b"", b"three"))),
    "with one only to skip": skippable(b"nothing"),
    "with a window of 8 MiB": HEAD[:5] + bytes([13 << 3]) + block(b"x", last=True),
}
CONTENTS = {
    "plain": TEXT,
    "with a checksum": TEXT,
    "with a dictionary id of 0": TEXT,
    "of raw blocks": TEXT[:9000],
    "of a repeated byte": b"a" * 131_072 + b"b" * 131_072 + b"c" * 5,
    "of a byte repeated no times": b"x",
    "with one to skip before": b"content",
    "with two to skip behind": b"content",
    "three in a row": b"one, three",
    "with one only to skip": b"",
    "with a window of 8 MiB": b"x",
}


@pytest.mark.parametrize("shape", FRAMES)
def test_frames_of_all_shapes_are_decoded_in_any_pieces(shape: str, make: MakeStream) -> None:
    coded = FRAMES[shape]
    length = int(shape.rpartition(" ")[2]) if "length" in shape else 0
    content = CONTENTS.get(shape, (TEXT * (1 + length // len(TEXT)))[:length])
    pieces = [bytewise(coded)] if len(coded) < 30_000 else []
    for split in (*pieces, [coded], [coded[:7], coded[7:]], [coded[:-1], coded[-1:]]):
        stream = make()
        assert decoded(stream, *split) == content
        assert stream.complete


# Several frames are complete after each of them.
SINGLE_FRAMES = FRAMES.keys() - {"three in a row", "with one to skip before", "with two to skip behind"}


@pytest.mark.parametrize("shape", sorted(SINGLE_FRAMES))
def test_a_frame_is_complete_only_with_its_last_byte(shape: str, make: MakeStream) -> None:
    coded = FRAMES[shape]
    for length in {*range(min(20, len(coded))), len(coded) // 2, *range(max(0, len(coded) - 20), len(coded))}:
        stream = make()
        decoded(stream, coded[:length])
        assert not stream.complete, length


@pytest.mark.parametrize(
    "second", [zstandard.compress(b"second"), skippable(b"second")], ids=["frame", "skippable"]
)
def test_a_second_frame_that_is_cut_is_incomplete(second: bytes, make: MakeStream) -> None:
    for length in range(1, len(second)):
        stream = make()
        assert decoded(stream, zstandard.compress(b"first")) == b"first"
        assert stream.complete
        decoded(stream, second[:length])
        assert not stream.complete, length


@pytest.mark.parametrize(
    "coded",
    [
        pytest.param(b"garbage!", id="no magic number"),
        pytest.param(b"\x1e\xb5\x2f\xfd" + HEAD[4:], id="a format before 1.0"),
        pytest.param(HEAD[:4] + b"\x08" + HEAD[5:], id="the reserved bit"),
        pytest.param(
            HEAD[:4] + b"\x01" + HEAD[5:] + b"\x07" + block(b"x", last=True), id="an unknown dictionary"
        ),
        pytest.param(HEAD + block(b"x", 3, last=True), id="the reserved block type"),
        pytest.param(HEAD + block(b"x", 1, 131_073, last=True), id="a block over 128 KiB"),
        pytest.param(HEAD + block(bytes(131_073), last=True), id="a raw block over 128 KiB"),
        pytest.param(HEAD + block(b"nonsense" * 5, 2, last=True), id="a malformed block"),
        pytest.param(zstandard.compress(b"x") + b"garbage!", id="garbage behind a frame"),
        pytest.param(HEAD[:5] + bytes([13 << 3 | 1]) + block(b"x", last=True), id="a window over 8 MiB"),
        pytest.param(HEAD[:5] + bytes([21 << 3]) + block(b"x", last=True), id="a window of 2 GiB"),
    ],
)
def test_what_is_no_frame_or_needs_too_much_is_an_error(coded: bytes, make: MakeStream) -> None:
    for pieces in ([coded], [coded[:6], coded[6:]]):
        with pytest.raises(ContentCodingError, match="zstd: it is malformed"):
            decoded(make(), *pieces)


def test_a_wrong_checksum_or_length_is_an_error(make: MakeStream) -> None:
    coded = bytearray(FRAMES["with a checksum"])
    coded[-1] ^= 1
    with pytest.raises(ContentCodingError, match="malformed"):
        decoded(make(), bytes(coded))
    short = b"\x28\xb5\x2f\xfd" + b"\x20\x05" + block(b"four", last=True)
    with pytest.raises(ContentCodingError, match="malformed"):
        decoded(make(), short)


@given(
    st.lists(
        st.one_of(
            st.binary(max_size=500).map(zstandard.compress),
            st.binary(max_size=500).map(skippable),
            st.integers(0, 400_000).map(lambda size: zstandard.compress(bytes(size))),
        ),
        min_size=1,
        max_size=4,
    ),
    st.integers(1, 40),
    st.sampled_from(MODULES),
)
def test_any_frames_in_any_pieces_are_what_the_library_itself_makes_of_them(
    frames: list[bytes], size: int, module: str
) -> None:
    coded = b"".join(frames)
    stream = stream_of(module)
    content = decoded(stream, *(coded[at : at + size] for at in range(0, len(coded), size)))
    assert stream.complete
    assert stream.frames == len(frames)
    whole = zstandard.ZstdDecompressor().decompressobj(read_across_frames=True)
    assert content == whole.decompress(coded)


@given(st.binary(max_size=60), st.sampled_from(["", "frame", "block"]), st.sampled_from(MODULES))
def test_any_bytes_are_frames_or_the_documented_error(junk: bytes, before: str, module: str) -> None:
    coded = {"": b"", "frame": HEAD[:4], "block": HEAD}[before] + junk
    try:
        decoded(stream_of(module), coded)
        blamed = "zstd"
    except ContentCodingError as error:
        blamed = error.coding
    assert blamed == "zstd"


def test_a_bomb_comes_in_steps(make: MakeStream) -> None:
    coded = zstandard.compress(bytes(64 * MIB), level=19)
    assert len(coded) < 10_000
    stream = make()
    assert 0 < len(stream.decode(coded)) <= 2 * STEP_BYTES
    assert not stream.complete
