"""What can go wrong above the wire. Each error is built from its facts, and keeps them."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

import attrs
import trio

if TYPE_CHECKING:
    from .messages import FieldsInput, Response


class HTTPError(Exception):
    """The base of everything that a client's request can raise, besides trio's own and your own."""


class InvalidRequest(HTTPError, ValueError):
    """The request cannot be sent as it was given: the URL, the method, a field or the content. Nothing was
    sent."""


@attrs.frozen(kw_only=True)
class RequestFacts:
    """What was known of an exchange when it failed.

    Attributes:
      method, url: of the request.
      bytes_sent: bytes of the request that were handed to the operating system.
      may_have_acted: the server may have received enough to act on: a retry could do it twice.
      response_started: bytes of a response had come.
      reused: the connection had served an earlier exchange.
      timed_out: the server was given up for being too slow, by the client's `ClientPace`.
      closed_because: why the connection was closed; empty when there was none.
    """

    method: str
    url: str
    bytes_sent: int = 0
    may_have_acted: bool = False
    response_started: bool = False
    reused: bool = False
    timed_out: bool = False
    closed_because: str = ""


class RequestFailed(HTTPError):
    """A request got no complete response.

    Args:
      what: what went wrong, as a sentence without a full stop.
      facts: what was known.

    Attributes:
      facts: as given.
    """

    def __init__(self, what: str, facts: RequestFacts) -> None:
        super().__init__(what, facts)
        self.facts = facts

    def __str__(self) -> str:
        what, facts = self.args
        acted = (
            "the server may have acted on it"
            if facts.may_have_acted
            else "the server cannot have acted on it"
        )
        return f"{facts.method} {facts.url}: {what} ({facts.bytes_sent} bytes sent, {acted})"


class ConnectFailed(RequestFailed):
    """No connection to the origin could be made; the cause is chained. Nothing was sent."""


class ConnectionLost(RequestFailed):
    """The connection broke or was closed before a response began."""


class ResponseIncomplete(RequestFailed):
    """The connection ended within the response. What was received is not the whole, however it looks."""


class ResponseInvalid(RequestFailed):
    """The response breaks the protocol or a limit; the cause, a `trio_http.wire.RemoteProtocolError`, says
    how."""


class ContentTooLarge(RequestFailed):
    """The response's content exceeds the limit for a whole one; stream it instead, or raise the limit."""


class PoolClosed(RequestFailed):
    """The client was closed, before the request or during it."""


class TooManyRedirects(RequestFailed):
    """A chain of redirects was longer than the client follows.

    Attributes:
      response: the redirect that was not followed any more.
    """

    def __init__(self, what: str, facts: RequestFacts, response: Response) -> None:
        super().__init__(what, facts)
        self.response = response


class RedirectRefused(RequestFailed):
    """A redirect cannot be followed, or not without giving away what the caller has not said may be.

    Attributes:
      response: the redirect.
    """

    def __init__(self, what: str, facts: RequestFacts, response: Response) -> None:
        super().__init__(what, facts)
        self.response = response


class UpgradeRefused(HTTPError):
    """The server answered a request to switch protocols without switching.

    Attributes:
      response: what it answered, whole.
      url: what was asked.
    """

    def __init__(self, response: Response, url: str) -> None:
        super().__init__(response, url)
        self.response = response
        self.url = url

    def __str__(self) -> str:
        return (
            f"{self.url} did not switch protocols, and answered {self.response.status}"
            f" {_phrase(self.response.status)}"
        )


class StatusError(HTTPError):
    """A response with status 400-599 met ``raise_for_status``, or one that is no file met ``download``.

    Attributes:
      response: the response.
    """

    def __init__(self, response: Response, url: str) -> None:
        super().__init__(response, url)
        self.response = response
        self.url = url

    def __str__(self) -> str:
        return f"{self.url} answered {self.response.status} {_phrase(self.response.status)}"


class HTTPException(Exception):  # the name that handlers of other frameworks know
    """Raised by a handler to answer with a status instead of returning a response.

    Args:
      status: 300-599.
      text: the content; None for the status's phrase.
      headers: header fields of the answer.

    Raises:
      TypeError: a status that is no int, or a text that is no str.
      ValueError: another status; for success there is `Response`.

    Attributes:
      status, text, headers: as given.
    """

    def __init__(self, status: int, text: str | None = None, *, headers: FieldsInput | None = None) -> None:
        if not isinstance(status, int):
            raise TypeError(f"status must be an int, not {status!r}")
        if not 300 <= status <= 599:
            raise ValueError(
                f"an HTTPException answers with a status of 300-599, not {status}; return a Response instead"
            )
        if text is not None and not isinstance(text, str):
            raise TypeError(f"text must be a str, not {type(text).__name__}")
        super().__init__(status, text)
        self.status = status
        self.text = f"{status} {_phrase(status)}\n" if text is None else text
        self.headers = headers

    def __str__(self) -> str:
        return self.text.rstrip("\n")


class ClientDisconnected(trio.BrokenResourceError):
    """The client of a server went away within an exchange. Not the handler's fault, and not logged as
    such."""


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Error"
