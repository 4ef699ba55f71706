"""How much a peer may ask of us, and which of its errors we may be told to overlook.

Every limit is on by default and every leniency off. The table of defaults in the reference is made from this
file.
"""

from __future__ import annotations

import dataclasses
import enum


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bounds on what is received; all in bytes or pieces, all at least 1.

    The verdict depends on the bytes alone, never on how they were split into receives.

    Attributes:
      max_head_bytes: a start line with its header section and the empty line that ends it; more is 431.
        Precedents: nginx 32 KiB, node 16 KiB, uvicorn 64 KiB (raised from 16 for large cookies), Go 1 MiB.
        The h11 face has h11's 16 KiB unless told otherwise.
      max_fields: field lines in a header section; more is 431. Precedents: Apache, hyper and Envoy 100.
      max_target_bytes: a request target; more is 414. RFC 9112 §3 wants at least 8000; nginx and Apache allow
        8 KiB a line.
      max_chunk_extension_bytes: the chunk extensions of one body, together. Precedent: hyper 16 KiB.
      max_trailer_bytes: a trailer section with the empty line that ends it.
      max_trailers: field lines in a trailer section.
      max_interim: interim (1xx) responses to one request. Precedent: CPython's http.client since its fix for
        endless ones.
    """

    max_head_bytes: int = 64 * 1024
    max_fields: int = 100
    max_target_bytes: int = 8 * 1024
    max_chunk_extension_bytes: int = 16 * 1024
    max_trailer_bytes: int = 16 * 1024
    max_trailers: int = 100
    max_interim: int = 100

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if not isinstance(value, int) or isinstance(value, bool):
                raise TypeError(f"{field.name} must be an int, not {value!r}")
            if value < 1:
                raise ValueError(f"{field.name} must be at least 1, not {value}")


class Leniency(enum.Enum):
    """One named departure from strictness on what is received; what is sent has none.

    Each member says what it lets in, what then happens to it, and which attack it opens. Give only those that
    a peer you know needs, and only to connections with that peer.
    """

    BARE_LF = "bare-lf"
    """LF alone ends a line, in heads, chunk lines and trailers (RFC 9112 §2.2 allows it for heads). Opens
    request
    smuggling past a proxy that takes the LF for part of a value, or that ends the head elsewhere."""

    OBS_FOLD = "obs-fold"
    """A folded field line in a request is joined by one space (RFC 9112 §5.2). A client always joins, as it
    must. Opens
    header injection past a proxy that sees the continuation as a field of its own."""

    CONTROLS_IN_VALUE = "controls-in-value"
    """Control characters other than NUL, CR and LF stay in field values, as some cookies have them. Opens log
    and terminal
    injection behind us, and disagreement with stricter hops."""

    REPEATED_CONTENT_LENGTH = "repeated-content-length"
    """``Content-Length: 3, 3`` and identical repeats are merged into one (RFC 9110 §8.6). Opens smuggling
    past a hop that
    takes the list for something else."""

    BOTH_FRAMINGS = "both-framings"
    """Content-Length beside Transfer-Encoding is dropped, and the connection closes after the message (RFC
    9112 §6.1).
    Opens the classic CL.TE smuggling past a hop that believes the length."""

    MINOR_VERSION = "minor-version"
    """HTTP/1.2 to HTTP/1.9 are taken for 1.1 (RFC 9110 §2.5). Opens disagreement on persistence and coding
    with hops that
    read the version as 1.0."""

    NON_ASCII_TARGET = "non-ascii-target"
    """Bytes 0x80-0xFF stay in a request target, where RFC 3986 has none. Opens cache poisoning and
    access-rule bypass
    between hops that decode them differently."""

    CHUNK_SIZE_WHITESPACE = "chunk-size-whitespace"
    """Spaces and tabs after a chunk size are ignored; old servers pad with them. Opens smuggling past a hop
    that reads
    the padded size as malformed or as an extension."""

    UNKNOWN_EXPECTATION = "unknown-expectation"
    """An Expect other than 100-continue is ignored rather than answered with 417 (RFC 9110 §10.1.1). Opens no
    framing
    attack; the client is led to believe that its expectation was met."""


STRICT: frozenset[Leniency] = frozenset()
