"""Who asks: the hook by which a client shows credentials, and the two schemes that need no more than a field.

The client and an `Auth` take turns (RFC 9110 §11.4, §11.6):

1. Before each sending, also of a repeat on another connection, the client asks `authorize` for fields. They
   are to be new for each: a server may refuse to see the same ones twice.
2. It tells `received` the head of each final response, and whatever that teaches is kept for later requests.
3. After a 401 it asks `answer` for fields of another attempt, `rounds` times at most, provided that the
   request's content can be sent once more. These fields stand in place of what `authorize` gives; None hands
   the 401 to the caller.

Credentials belong to the origin that they were given for: the client asks nobody when a redirect led to
another one. They appear in no text that an object or an error of this package shows: `repr` leaves them out,
and an error says what is wrong with them, not what they are.

What an `Auth` keeps is changed in synchronous code only, so that one object may serve many tasks.
"""

from __future__ import annotations

import base64
import inspect
import re
import unicodedata
from collections.abc import Awaitable, Callable
from typing import Final, TypeAlias

import attrs
import trio

from trio_http._errors import InvalidRequest
from trio_http.messages import FieldsInput, Headers, Response

from ._challenge import TOKEN68, challenges
from ._origin import Origin

AuthInput: TypeAlias = "Auth | tuple[str, str]"
TokenSource: TypeAlias = "Callable[[], Awaitable[str]]"

_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")  # CTL (RFC 5234 appendix B.1)
# Looked for, since the error of `str.encode` would carry the text, also as the context of another.
_SURROGATE: Final = re.compile(r"[\ud800-\udfff]")


@attrs.frozen(kw_only=True)
class AuthRequest:
    """A request as far as credentials may depend on it.

    Attributes:
      method: as it goes out.
      url: as the caller wrote it.
      target: the request target in the form in which the origin server gets it: origin-form, also where a
        proxy on the way is asked in absolute-form (RFC 9112 §3.2).
      headers: the header section. In `Auth.received` and `Auth.answer` with the fields that `Auth` added.
      content: all of it, b"" without any; None if it is streamed.
      origin: where it goes: scheme, host and port.
    """

    method: str
    url: str
    target: str
    headers: Headers = attrs.field(repr=False)
    content: bytes | None = attrs.field(repr=False)
    origin: Origin


class Auth:
    """The hook for credentials. This class itself has none; a subclass overrides what it needs.

    A signature over the request, as cloud services want it, needs `authorize` alone::

        class Signed(trio_http.Auth):
            def __init__(self, key_id: str, key: bytes) -> None:
                self._key_id, self._key = key_id, key

            async def authorize(self, request: trio_http.AuthRequest) -> trio_http.Headers:
                if request.content is None:
                    raise ValueError("a streamed content cannot be signed beforehand")
                date = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
                digest = hashlib.sha256(request.content).hexdigest()
                text = "\\n".join([request.method, request.target, request.origin.authority, date, digest])
                signature = hmac.new(self._key, text.encode(), "sha256").hexdigest()
                return trio_http.Headers({
                    "X-Date": date,
                    "Authorization": f"HMAC-SHA256 keyid={self._key_id}, signature={signature}",
                })

    A scheme of several steps (NTLM, Negotiate) reads the server's step from the 401 in `answer` and says by
    `rounds` and `keeps_connection` what it needs.

    An error that a method raises ends the request and comes out of it as it is.

    Attributes:
      rounds: how often at most `answer` is asked within one request, at least 0.
      keeps_connection: a further attempt goes over the connection that the 401 came on, since the server
        holds the conversation against that (NTLM). It fails if that connection cannot be used again.
    """

    rounds: int = 1
    keeps_connection: bool = False

    async def authorize(self, request: AuthRequest) -> FieldsInput:
        """Return the fields to be sent with the request; each takes the place of those of its name.

        Called before each sending, also of a repeat on another connection. Only the attempt that `answer`
        gave fields for goes out with those instead, the first time that it is sent.

        Args:
          request: without these fields.

        Cancellation: the request is not sent. It need not have a checkpoint: the request has.
        """
        return ()

    def received(self, request: AuthRequest, status: int, headers: Headers) -> None:
        """Take note of the head of a final response, before its content is read and before `answer` is asked.

        It sees every response, also the 401 to a request that cannot be repeated: so a credential that the
        server refused, or a challenge that it set, is known to the next request.
        """

    async def answer(self, request: AuthRequest, response: Response, round: int) -> FieldsInput | None:
        """Return the fields of another attempt after a 401; None if there is nothing better to show.

        Args:
          request: what was answered by 401, with the fields that it was sent with.
          response: the 401. Its `WWW-Authenticate` is read by `challenges`.
          round: the number of this call within the request, from 1 to `rounds`.

        A 401 that came in one piece is read beforehand, so that a request for a token finds its connection
        free; one in the block of ``stream`` keeps its connection until this returns.

        Cancellation: no other attempt is made. As in `authorize`, it need not have a checkpoint.
        """
        return None

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"


class BasicAuth(Auth):
    """User name and password, sent with every request without being asked for.

    Whoever reads the connection reads them, so they belong on https.

    Args:
      username, password: any characters besides controls, and no colon in the name. They are sent in UTF-8,
        normalised by NFC.

    Raises:
      InvalidRequest: a colon in the name, a control character, or a lone surrogate.
      TypeError: one of them is no str.

    Reference: RFC 7617.
    """

    def __init__(self, username: str, password: str) -> None:
        name = credential("username", username)
        if b":" in name:
            raise InvalidRequest("username holds a colon, which Basic has no room for (RFC 7617 §2)")
        pair = base64.b64encode(name + b":" + credential("password", password))
        self._fields = Headers({"Authorization": f"Basic {pair.decode('ascii')}"})

    async def authorize(self, request: AuthRequest) -> FieldsInput:
        """Return the Authorization field, as `Auth.authorize`.

        Cancellation: there is nothing in it to be cancelled, and no checkpoint.
        """
        return self._fields


class BearerAuth(Auth):
    """A token, sent with every request without being asked for.

    Whoever reads the connection can use it, so it belongs on https (RFC 6750 §5.3).

    Args:
      token: the token, or an async callable that returns one. The callable is asked by the first request;
        the others wait for it, and have the same token. It is asked again, once for each request, after a 401
        that calls the token invalid. An error of it comes out of the request, and the next request asks
        again.

    Raises:
      InvalidRequest: the token is none by RFC 6750 §2.1; for one from a callable, from the request.
      TypeError: it is neither a str nor callable; or the callable was no async one, or returned no str.

    Reference: RFC 6750.
    """

    def __init__(self, token: str | TokenSource) -> None:
        self._source: TokenSource | None = None
        self._token: str | None = None
        self._lock = trio.Lock()
        if isinstance(token, str):
            self._token = _checked_token(token)
        elif callable(token):
            self._source = token
        else:
            raise TypeError(
                f"token must be a str or an async callable that returns one, not {type(token).__name__}"
            )

    async def authorize(self, request: AuthRequest) -> FieldsInput:
        """Return the Authorization field, as `Auth.authorize`.

        Cancellation: the request is not sent. If it was this one that asked the callable, the callable is
        cancelled, and another request asks it again.
        """
        return {"Authorization": f"Bearer {await self._current()}"}

    def received(self, request: AuthRequest, status: int, headers: Headers) -> None:
        """Forget a token of the callable that the server calls invalid."""
        sent = request.headers.get("authorization")
        # Not if another task has brought a newer one meanwhile.
        is_ours = self._source is not None and sent == f"Bearer {self._token}"
        if is_ours and status == 401 and _says_invalid_token(headers):
            self._token = None

    async def answer(self, request: AuthRequest, response: Response, round: int) -> FieldsInput | None:
        """Return the field with a newer token, if there is one.

        Cancellation: as `authorize`.
        """
        if self._source is None or not _says_invalid_token(response.headers):
            return None
        self.received(request, response.status, response.headers)
        field = f"Bearer {await self._current()}"
        return None if field == request.headers.get("authorization") else {"Authorization": field}

    async def _current(self) -> str:
        if self._token is None:
            # The waiting ones find what the first was given. If it failed or was cancelled, the next asks.
            async with self._lock:
                if self._token is None:
                    self._token = await self._fetch()
        return self._token

    async def _fetch(self) -> str:
        assert self._source is not None, "a token that was given as such is never forgotten"
        pending: object = self._source()
        if not inspect.isawaitable(pending):
            got = type(pending).__name__
            raise TypeError(f"the callable for the token must be async, but it returned {got}")
        token = await pending
        if not isinstance(token, str):
            raise TypeError(f"the callable for the token must return a str, not {type(token).__name__}")
        return _checked_token(token)


def as_auth(given: object) -> Auth:
    """Return what a caller gave for ``auth`` as an `Auth`.

    Args:
      given: `AuthInput`: an `Auth`, or a tuple of user name and password for `BasicAuth`. A callable is not
        taken: whether it makes tokens, signs, or changes the request cannot be told from it.

    Raises:
      TypeError: it is something else.
      InvalidRequest: as `BasicAuth`.
    """
    if isinstance(given, Auth):
        return given
    if isinstance(given, tuple) and len(given) == 2:
        return BasicAuth(*given)
    # What was given is not shown: it may be the password.
    got = f"a tuple of {len(given)}" if isinstance(given, tuple) else type(given).__name__
    hint = "; for a callable there are BearerAuth and subclasses of Auth" if callable(given) else ""
    raise TypeError(f"auth must be an Auth or a tuple (username, password), not {got}{hint}")


def credential(name: str, text: str) -> bytes:
    """Return a user name or password as the bytes that count: UTF-8 of its normal form C.

    Raises:
      InvalidRequest: it holds a control character or a lone surrogate. What, is not shown.
      TypeError: it is no str.

    Reference: RFC 7617 §2 and §2.1, RFC 7616 §4.
    """
    if not isinstance(text, str):
        raise TypeError(f"{name} must be a str, not {type(text).__name__}")
    if _CONTROL.search(text):
        raise InvalidRequest(f"{name} holds a control character (RFC 7617 §2)")
    if _SURROGATE.search(text):
        raise InvalidRequest(f"{name} holds a lone surrogate, which UTF-8 has no bytes for")
    return unicodedata.normalize("NFC", text).encode()


def _checked_token(token: str) -> str:
    if not TOKEN68.fullmatch(token):
        raise InvalidRequest(
            "the token has characters that a bearer token cannot have, expected letters, digits and -._~+/ "
            "with = at the end only, and without the word Bearer (RFC 6750 §2.1)"
        )
    return token


def _says_invalid_token(headers: Headers) -> bool:
    """Tell whether a server names the token as what is wrong (RFC 6750 §3.1)."""
    return any(
        challenge.scheme == "bearer" and challenge.parameters.get("error") == "invalid_token"
        for challenge in challenges(headers.get_all("www-authenticate"))
    )
