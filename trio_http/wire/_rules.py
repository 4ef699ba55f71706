"""The strictness of one connection, worked out once from its role, limits and leniencies."""

from __future__ import annotations

from ._grammar import LENIENT_TARGET_MARKS, LENIENT_VALUE_MARKS, TARGET_MARKS, VALUE_MARKS
from ._limits import Leniency, Limits


class Rules:
    """What the readers of one connection accept.

    Attributes:
      limits: the bounds.
      value_marks, target_marks: tables that mark the bytes allowed in field values and targets.
      unfold: folded field lines are joined. A server does so only if told; a client must (RFC 9112 §5.2).
      bare_lf, repeated_length, both_framings, minor_version, chunk_size_whitespace, unknown_expectation: as
        `Leniency`.
    """

    __slots__ = (
        "bare_lf", "both_framings", "chunk_size_whitespace", "limits", "minor_version", "repeated_length",
        "target_marks", "unfold", "unknown_expectation", "value_marks",
    )  # fmt: skip

    def __init__(self, limits: Limits, lenient: frozenset[Leniency], *, client: bool) -> None:
        for item in lenient:
            if not isinstance(item, Leniency):
                raise TypeError(f"lenient must hold Leniency members, not {item!r}")
        self.limits = limits
        self.value_marks = LENIENT_VALUE_MARKS if Leniency.CONTROLS_IN_VALUE in lenient else VALUE_MARKS
        self.target_marks = LENIENT_TARGET_MARKS if Leniency.NON_ASCII_TARGET in lenient else TARGET_MARKS
        self.unfold = client or Leniency.OBS_FOLD in lenient
        self.bare_lf = Leniency.BARE_LF in lenient
        self.repeated_length = Leniency.REPEATED_CONTENT_LENGTH in lenient
        self.both_framings = Leniency.BOTH_FRAMINGS in lenient
        self.minor_version = Leniency.MINOR_VERSION in lenient
        self.chunk_size_whitespace = Leniency.CHUNK_SIZE_WHITESPACE in lenient
        self.unknown_expectation = Leniency.UNKNOWN_EXPECTATION in lenient
