"""A request as it will be sent."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeAlias

from trio_http import wire
from trio_http._errors import InvalidRequest
from trio_http.messages import FieldsInput, as_wire_headers

from ._content_source import Content
from ._origin import Origin
from ._route import Route
from ._settings import RequestSettings
from ._url import Destination

#: The trailer section of a request: fields, or what gives them when the content was sent, for a checksum say.
TrailersInput: TypeAlias = "FieldsInput | Callable[[], FieldsInput]"

# Repeating them does what doing them once does (RFC 9110 §9.2.2).
IDEMPOTENT: Final = frozenset([b"GET", b"HEAD", b"OPTIONS", b"TRACE", b"PUT", b"DELETE"])

# Content up to this goes out in one send with its head, which may wait, and nothing is read meanwhile. The
# buffers of the two kernels take that much however slow the server reads: Linux and the BSDs begin with 16
# KiB and more on each side.
_AT_ONCE_BYTES: Final = 16 * 1024


class RequestPlan:
    """One request, ready to be sent once or, when its content can be had again, more often.

    Attributes:
      method: as it goes out.
      destination: where to.
      route: which connections lead there.
      target: as it goes out.
      headers: the header section, with Host and framing.
      content: all of it, or what to open.
      settings: what else was asked for.
      expects: a 100 (Continue) is waited for before the content is sent.
      trailers: the trailer section, or what gives it.
      prepared: the whole request, when it can be sent at once.
      is_plain: one exchange is all that it asks for.
      upgrade: the protocols that a switch is wanted to; empty mostly.
    """

    __slots__ = (
        "content",
        "destination",
        "expects",
        "headers",
        "is_plain",
        "method",
        "prepared",
        "route",
        "settings",
        "target",
        "trailers",
        "upgrade",
    )

    def __init__(
        self,
        method: bytes,
        destination: Destination,
        route: Route,
        target: bytes,
        headers: wire.Headers,
        content: bytes | Content,
        settings: RequestSettings,
        *,
        expects: bool = False,
        trailers: TrailersInput | None = None,
        upgrade: tuple[str, ...] = (),
        fresh: wire.MessageConnection | None = None,
    ) -> None:
        self.method = method
        self.destination = destination
        self.route = route
        self.target = target
        self.headers = headers
        self.content = content
        self.settings = settings
        self.expects = expects
        self.trailers = trailers
        self.upgrade = upgrade
        self.is_plain = settings.is_plain
        self.prepared: wire.PreparedRequest | None = None
        try:
            if (
                isinstance(content, bytes)
                and len(content) <= _AT_ONCE_BYTES
                and not expects
                and trailers is None
            ):
                fresh = fresh or wire.MessageConnection(wire.CLIENT)
                self.prepared = fresh.prepare_request(method, target, headers, content)
            else:
                _check_head_and_trailers(method, target, headers, trailers)
        except wire.LocalProtocolError as exc:
            raise InvalidRequest(str(exc)) from exc

    @property
    def origin(self) -> Origin:
        """Where the request is for."""
        return self.destination.origin

    @property
    def url(self) -> str:
        """As the caller wrote it, without the fragment."""
        return self.destination.url

    @property
    def is_idempotent(self) -> bool:
        """To do it a second time does no harm (RFC 9110 §9.2.2)."""
        return self.method in IDEMPOTENT

    @property
    def is_repeatable(self) -> bool:
        """To send it a second time is possible."""
        return isinstance(self.content, bytes) or self.content.repeatable

    def with_fields(self, fields: wire.Headers) -> RequestPlan:
        """Return the same request with these fields, in place of those of the same names."""
        if not fields:
            return self
        return RequestPlan(
            self.method,
            self.destination,
            self.route,
            self.target,
            self.headers.merged(fields),
            self.content,
            self.settings,
            expects=self.expects,
            trailers=self.trailers,
            upgrade=self.upgrade,
        )


def _check_head_and_trailers(
    method: bytes, target: bytes, headers: wire.Headers, trailers: TrailersInput | None
) -> None:
    """See that the wire takes a request of several sends, before a connection is asked for."""
    trial = wire.MessageConnection(wire.CLIENT)
    if trailers is not None and {b"content-length", b"transfer-encoding"}.isdisjoint(headers.by_name):
        headers = headers.replaced(b"Transfer-Encoding", b"chunked")
    trial.send_request(method, target, headers)
    if trailers is not None:
        if b"transfer-encoding" not in headers.by_name:
            raise InvalidRequest("trailers need the chunked coding, not a Content-Length (RFC 9112 §7.1.2)")
        if not callable(trailers):
            trial.send_end(as_fields(trailers))


def as_fields(given: FieldsInput | None) -> wire.Headers:
    try:
        return as_wire_headers(given)
    except (wire.LocalProtocolError, UnicodeEncodeError) as exc:
        raise InvalidRequest(f"header fields that cannot be sent: {exc}") from exc
