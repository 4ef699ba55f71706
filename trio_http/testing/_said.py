"""What an exception says, in one line."""

from __future__ import annotations


def said(exc: BaseException) -> str:
    """Return the type and text of an exception; of a group, those of its leaves."""
    if isinstance(exc, BaseExceptionGroup):
        return "; ".join(said(inner) for inner in exc.exceptions)
    return f"{type(exc).__name__}: {exc}" if str(exc) else repr(exc)
