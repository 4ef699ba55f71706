"""What exceptions of handlers mean, and what is answered to them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import trio

from trio_http._errors import HTTPException
from trio_http.messages import Response


def is_interrupt(exc: BaseException) -> bool:
    """Tell whether ``exc`` is an interrupt such as `KeyboardInterrupt`: no group, and no cancel."""
    return not isinstance(exc, BaseExceptionGroup | trio.Cancelled)


def lone_leaf(exc: Exception) -> Exception:
    """Return the only exception in a group of groups, or ``exc`` itself."""
    while isinstance(exc, ExceptionGroup) and len(exc.exceptions) == 1:
        exc = exc.exceptions[0]
    return exc


def is_of_the_await_in(function: Callable[..., Any], exc: Exception) -> bool:
    """Tell whether ``exc`` was raised by an ``await`` in ``function`` itself of what a handler returned: a
    plain function's response, say, which is no awaitable."""
    trace = exc.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return isinstance(exc, TypeError) and trace is not None and trace.tb_frame.f_code is function.__code__


def response_of(exc: HTTPException) -> Response:
    """Return the answer that ``exc`` stands for; a 304 has no content."""
    return Response(exc.status, text=exc.text if exc.status != 304 else None, headers=exc.headers)


def phrase(status: int) -> str:
    """Return the content of an answer that says no more than its status."""
    return f"{HTTPException(status)}\n"
