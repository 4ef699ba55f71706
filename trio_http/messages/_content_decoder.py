"""Content that was coded for its way, and is decoded in steps as it comes.

Theory of operation
===================

Codings are undone in reverse, each by a layer that pulls from the one before it:

    feed() -> [pieces] -> layer of the last coding -> ... -> layer of the first coding -> take()

`ContentDecoder.take` asks the last layer for a step of output; a layer that has none left asks the one before
it for input; the first takes what was fed. So there is at most one step of output in each layer, whatever
the content would grow to, and nothing is decoded that nobody has asked for.

That bounds memory but not time: a kilobyte can be made to grow to a gigabyte, in two layers to a million
times as much. So what a layer puts out is weighed against what was received, and past a limit it is
`ContentTooExpanded`. Every layer is weighed, not only the last: an outer one can grow to a gigabyte of empty
gzip members that come to nothing in the inner one, and keep it busy for minutes. For the same reason each
member and frame after the first weighs something by itself.
"""

from __future__ import annotations

import math
import operator
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

from ._coded_streams import STEP_BYTES, coded_stream
from ._content_coding import (
    FREE_BYTES,
    MAX_RATIO,
    ContentCodingError,
    ContentTooExpanded,
    parse_content_encoding,
    supported_codings,
    unknown_coding,
)

# What each further member or frame weighs, in bytes of output. To begin one takes about as long as to decode
# 1 KiB; and it is as much as makes those without content too much by themselves, which have 20 bytes in gzip
# and 8 in zstd.
_FRAME_WEIGHT: Final = 4096

# What a layer is given at once. zlib copies what it has not used yet after each step, so the time for a
# large piece that grows would be quadratic in it.
_SLICE_BYTES: Final = 16384


def decoder_for(content_encoding: bytes, *, max_ratio: float | None = MAX_RATIO) -> ContentDecoder | None:
    """Return a decoder for content with this Content-Encoding (RFC 9110 §8.4), or None.

    None means: pass the content on as it comes, and leave the field as it is. Either nothing was applied
    (no coding, or ``identity``), or there is a coding among those named that this installation does not know;
    then the others are not undone either, for then the field would no longer say what the content is.

    Args:
      content_encoding: the field's value; of several field lines, all values joined with commas.
      max_ratio: see `ContentDecoder`.

    Raises:
      ContentCodingError: there are more than five codings.
      ValueError: ``max_ratio`` is less than 1.
    """
    codings = parse_content_encoding(content_encoding)
    if not codings or not set(codings) <= set(supported_codings()):
        return None
    return ContentDecoder(codings, max_ratio=max_ratio)


class ContentDecoder:
    """Coded content, decoded in steps: `feed` it, `take` until ``b""``, feed again; `finish` at the end.

    At no time is more decoded content held than one step of each coding: 128 KiB, and what its library needs
    as a window (up to 16 MiB for br, 8 for zstd).

    Args:
      codings: the codings in the order in which they were applied; at least one, each of `supported_codings`.
      max_ratio: how many times as many bytes as were received each coding may put out, from 1, beyond the
        first `FREE_BYTES`. None: any number. What decides is what was used of the content up to a point, in
        slices of 16 KiB, so content near the limit may pass or fail by the pieces it comes in.

    Raises:
      ValueError: an unknown coding, no coding, or a ``max_ratio`` of less than 1.

    Attributes:
      codings: as given.
    """

    __slots__ = ("_at", "_broken", "_finished", "_held", "_layers", "_pieces", "codings")

    def __init__(self, codings: Sequence[str], *, max_ratio: float | None = MAX_RATIO) -> None:
        self.codings = tuple(codings)
        if not self.codings:
            raise ValueError("codings must name at least one coding")
        for coding in self.codings:
            if coding not in supported_codings():
                raise unknown_coding(coding)
        if max_ratio is not None and not max_ratio >= 1:
            raise ValueError(f"max_ratio must be at least 1, or None for no limit, got {max_ratio!r}")
        self._pieces: deque[bytes] = deque()
        scales = _Scales(math.inf if max_ratio is None else max_ratio)
        self._layers: list[_Layer] = []
        source = self._next_piece
        for coding in reversed(self.codings):
            layer = _Layer(coding, source, scales, receives=not self._layers)
            self._layers.append(layer)
            source = layer.read
        self._held = b""
        self._at = 0
        self._finished = False
        self._broken = False

    def __repr__(self) -> str:
        return f"<ContentDecoder {', '.join(self.codings)}>"

    def feed(self, data: bytes) -> None:
        """Add coded content. Nothing is decoded yet, so this raises no error of the content's.

        Raises:
          RuntimeError: after `finish`, or after an error.
        """
        self._check_usable()
        if self._finished:
            raise RuntimeError("this content was finished: nothing can be fed")
        if data:
            self._pieces.append(bytes(data))

    def take(self, max_bytes: int = STEP_BYTES) -> bytes:
        """Return the next decoded content, or ``b""``: then feed more, or finish.

        Args:
          max_bytes: upper bound on the length returned, at least 1. Less may come at any time.

        Raises:
          ContentCodingError: the content is malformed; all that could be decoded before was returned, or
            most of it.
          ContentTooExpanded: it becomes too large.
          RuntimeError: after an error.
          ValueError, TypeError: ``max_bytes`` is no positive integer; nothing has changed.
        """
        max_bytes = operator.index(max_bytes)
        if max_bytes < 1:
            raise ValueError(f"max_bytes must be at least 1, got {max_bytes}")
        self._check_usable()
        if not self._held:
            self._decode()
        piece = self._held[self._at : self._at + max_bytes]
        self._at += len(piece)
        if self._at == len(self._held):
            self._held = b""
            self._at = 0
        return piece

    def finish(self) -> None:
        """Say that the coded content is over. If nothing was ever fed, there was none, as in the answer to a
        HEAD, and that is well. Finishing again does nothing.

        Raises:
          ContentCodingError: it is incomplete, or malformed.
          RuntimeError: decoded content is left to `take` (nothing has changed then), or after an error.
        """
        self._check_usable()
        if self._finished:
            return
        if not self._held:
            self._decode()
        if self._held:
            raise RuntimeError('content is left: take it until b"" before finish')
        received = self._layers[0].received
        if received:
            for layer in self._layers:
                if not layer.complete:
                    self._broken = True
                    raise ContentCodingError(
                        layer.coding,
                        f"it is incomplete: it ends within a stream, after {received} bytes received",
                    )
        self._finished = True

    def _check_usable(self) -> None:
        if self._broken:
            raise RuntimeError("this content is malformed, as an earlier error has said; nothing follows")

    def _decode(self) -> None:
        try:
            self._held = self._layers[-1].read()
        except ContentCodingError:
            self._broken = True
            raise

    def _next_piece(self) -> bytes:
        return self._pieces.popleft() if self._pieces else b""


class _Scales:
    """What was received, and how much of any layer's output that can carry."""

    __slots__ = ("bearable", "max_ratio", "received")

    def __init__(self, max_ratio: float) -> None:
        self.max_ratio = max_ratio
        self.received = 0
        self.bearable: float = FREE_BYTES

    def receive(self, length: int) -> None:
        self.received += length
        self.bearable = FREE_BYTES + self.max_ratio * self.received


class _Layer:
    """One coding of the chain, which pulls its input from ``source``.

    Args:
      source: gives the next piece of input, ``b""`` when there is none now.
      receives: its input is what was received: the layer of the coding that was applied last.
    """

    __slots__ = ("_at", "_input", "_produced", "_receives", "_scales", "_source", "_stream", "coding")

    def __init__(self, coding: str, source: Callable[[], bytes], scales: _Scales, *, receives: bool) -> None:
        self.coding = coding
        self._source = source
        self._stream = coded_stream(coding)
        self._scales = scales
        self._receives = receives
        self._input = b""
        self._at = 0
        self._produced = 0

    @property
    def received(self) -> int:
        return self._scales.received

    @property
    def complete(self) -> bool:
        return self._stream.complete

    def read(self) -> bytes:
        """Return a step of output, or ``b""``: there is no more input now.

        Raises:
          ContentCodingError: of this layer or one before it.
        """
        piece = b""
        while True:
            output = self._stream.decode(piece)
            self._produced += len(output)
            weight = self._produced + _FRAME_WEIGHT * (self._stream.frames - 1)
            if weight > self._scales.bearable:
                scales = self._scales
                raise ContentTooExpanded(self.coding, scales.received, weight, scales.max_ratio)
            if output:
                return output
            piece = self._next_slice()
            if not piece:
                return b""

    def _next_slice(self) -> bytes:
        if self._at >= len(self._input):
            self._input = self._source()
            self._at = 0
        piece = self._input[self._at : self._at + _SLICE_BYTES]
        self._at += len(piece)
        if self._receives:
            self._scales.receive(len(piece))
        return piece
