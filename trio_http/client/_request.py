"""From what a caller says to a request; what can be refused is refused here, before a connection is asked."""

from __future__ import annotations

import functools
import json as jsonlib
import re
from collections.abc import Mapping
from typing import Any, Final, Unpack

import attrs

from trio_http import wire
from trio_http._errors import InvalidRequest
from trio_http.messages import ContentEncoder, FieldsInput, MessageBody, accept_encoding, as_wire_headers

from ._auth import as_auth
from ._config import ClientConfig, ClientOptions
from ._content import Compressed, ContentInput, as_content
from ._content_source import Content
from ._hints import unknown_options
from ._multipart import FormInput, Multipart
from ._options import ContentOptions
from ._plan import RequestPlan, TrailersInput, as_fields
from ._proxy import ProxyChooser
from ._route import Route
from ._settings import RequestSettings
from ._url import (
    REMEMBERED_CHARS,
    Destination,
    ParamsInput,
    URLInput,
    form_encoded,
    joined_url,
    parse_url,
    url_text,
    with_params,
)

UNSET: Final[Any] = object()

# Methods are case-sensitive (RFC 9110 §9.1), but in lower case the usual ones are meant; the Fetch standard
# does so too.
_METHODS: Final = {
    spelling: method.encode()
    for method in ("GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE")
    for spelling in (method, method.lower())
}

# protocol-name ["/" protocol-version], both tokens (RFC 9110 §7.8)
_PROTOCOL: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+(?:/[!#$%&'*+\-.^_`|~0-9A-Za-z]+)?")

# Content up to this is compressed at once; more piece by piece while it is sent, since others want to run.
# It takes about a millisecond.
_CODED_AT_ONCE_BYTES: Final = 64 * 1024

_SETTINGS: Final = frozenset(attribute.name for attribute in attrs.fields(RequestSettings))


class Planner:
    """Makes plans from what callers say.

    Args:
      config: the User-Agent, and what is the same for all requests.
      base_url: what relative URLs are appended to.
      headers: fields of every request that does not say otherwise.
      proxy_for: tells which proxy leads to an origin.

    Attributes:
      settings: of a request that does not say otherwise.

    Raises:
      InvalidRequest: a bad ``base_url``.
      trio_http.wire.LocalProtocolError, UnicodeEncodeError: bad ``headers``.
    """

    def __init__(
        self,
        config: ClientConfig,
        base_url: URLInput | None,
        headers: FieldsInput | None,
        proxy_for: ProxyChooser,
    ) -> None:
        self.settings = RequestSettings(
            pace=config.pace,
            auth=config.auth,
            follow_redirects=config.follow_redirects,
            retry=config.retry,
            decode=config.decode,
            charset=config.charset,
            propagate_deadline=config.propagate_deadline,
        )
        self._base_url = None if base_url is None else str(base_url)
        if self._base_url is not None:
            parse_url(self._base_url)
            if "?" in self._base_url or "#" in self._base_url:
                raise InvalidRequest("base_url has a query or a fragment, to which no path can be appended")
        given = as_wire_headers(headers)
        defaults = [(b"User-Agent", config.user_agent.encode("latin-1")), (b"Accept", b"*/*")]
        if config.decode:
            defaults.append((b"Accept-Encoding", accept_encoding()))
        self._defaults = wire.Headers(defaults).merged(given)
        self._given_defaults = given
        self._proxy_for = proxy_for
        self._fresh = wire.MessageConnection(wire.CLIENT)  # on which requests are prepared
        # One section for all plain requests to a host: what is derived from it is derived once.
        self._fields_for = functools.lru_cache(maxsize=256)(self._default_fields)
        # And one plan for all requests that are the same and ask for nothing; but a function of the caller's
        # may lead each of them through another proxy.
        self._remembered_chars = -1 if callable(config.proxy) else REMEMBERED_CHARS
        self._plain_plan = functools.lru_cache(maxsize=256)(self._make_plain_plan)

    def plan(self, method: str, url: URLInput, **options: Unpack[ContentOptions]) -> RequestPlan:
        """Return the plan of one request.

        Raises:
          InvalidRequest: something cannot be sent as it was given.
          TypeError: an option that there is not.
        """
        if not options and type(url) is str and len(url) <= self._remembered_chars:
            return self._plain_plan(method, url)
        return self._plan(method, url, **options)

    def _make_plain_plan(self, method: str, url: str) -> RequestPlan:
        return self._plan(method, url)

    def _plan(
        self,
        method: str,
        url: URLInput,
        *,
        params: ParamsInput | None = None,
        headers: FieldsInput | None = None,
        target: str | bytes | None = None,
        content: ContentInput | None = None,
        json: Any = UNSET,
        data: ParamsInput | None = None,
        files: FormInput | None = None,
        compress: str | None = None,
        trailers: TrailersInput | None = None,
        **settings: Any,
    ) -> RequestPlan:
        text = url if isinstance(url, str) else url_text(url)
        if self._base_url is not None:
            text = joined_url(self._base_url, text)
        if params is not None:
            text = with_params(text, params)
        destination = parse_url(text)
        body, content_type = _content_of(content, json, data, files)
        coding = None
        if compress is not None:
            body, coding = _compressed(body, compress)
        given = as_fields(headers)
        fields = self._fields_for(destination.host)
        implied = []
        if content_type is not None:
            implied.append((b"Content-Type", content_type))
        if coding is not None:
            implied.append((b"Content-Encoding", coding))
        if trailers is not None and not callable(trailers):
            names = b", ".join(dict.fromkeys(name for name, _ in as_fields(trailers).raw_items()))
            implied.append((b"Trailer", names))
        chosen = self._settings(settings) if settings else self.settings
        if b"accept-encoding" not in self._given_defaults.by_name:
            if b"range" in given.by_name:
                # A part of coded content cannot be decoded. Without the field any coding would do.
                fields = fields.replaced(b"Accept-Encoding", b"identity")
            elif not chosen.decode:
                # What comes goes on as it is, maybe to somebody who has said what they can decode.
                fields = fields.replaced(b"Accept-Encoding")
        if implied:
            fields = fields.merged(wire.Headers(implied)).merged(given)
        elif given:
            fields = fields.merged(given)
        expects = fields.by_name.get(b"expect", b"").lower() == b"100-continue"
        if expects and body == b"":
            raise InvalidRequest("Expect: 100-continue without content to wait with (RFC 9110 §10.1.1)")
        return self.planned(
            _METHODS.get(method) or _method_of(method),
            destination,
            None if target is None else _target_of(target),
            fields,
            body,
            chosen,
            expects=expects,
            trailers=trailers,
        )

    def planned(
        self,
        method: bytes,
        destination: Destination,
        target: bytes | None,
        fields: wire.Headers,
        content: bytes | Content,
        settings: RequestSettings,
        *,
        expects: bool = False,
        trailers: TrailersInput | None = None,
        upgrade: tuple[str, ...] = (),
    ) -> RequestPlan:
        """Return the plan of a request whose parts are all there, with the route that it takes.

        Args:
          target: as it shall go out; None: what the destination, and a proxy perhaps, ask for.
        """
        origin = destination.origin
        proxy = self._proxy_for(origin)
        if proxy is None:
            route = Route(origin)
        else:
            route = Route.through(proxy, origin)
            if route.is_forwarded:
                fields = fields.merged(wire.Headers(proxy.fields()))
                if target is None:
                    target = str(origin).encode("ascii") + destination.target
        if upgrade:
            protocols = ", ".join(upgrade)
            fields = fields.merged(wire.Headers([("Connection", "Upgrade"), ("Upgrade", protocols)]))
        return RequestPlan(
            method,
            destination,
            route,
            destination.target if target is None else target,
            fields,
            content,
            settings,
            expects=expects,
            trailers=trailers,
            upgrade=upgrade,
            fresh=self._fresh,
        )

    def upgrading(self, url: URLInput, protocols: tuple[str, ...], **options: Any) -> RequestPlan:
        """Return the plan of a request for a switch of protocols (RFC 9110 §7.8).

        Raises:
          InvalidRequest: as `plan`; or what is to be a protocol is none.
          TypeError: as `plan`.
        """
        for protocol in protocols:
            if not _PROTOCOL.fullmatch(protocol):
                raise InvalidRequest(
                    f"malformed protocol {protocol!r}, expected a name, or name/version (RFC 9110 §7.8)"
                )
        plan = self.plan(options.pop("method", "GET"), url, **options)
        return self.planned(
            plan.method,
            plan.destination,
            plan.target,
            plan.headers,
            plan.content,
            plan.settings,
            expects=plan.expects,
            trailers=plan.trailers,
            upgrade=protocols,
        )

    def _settings(self, given: Mapping[str, Any]) -> RequestSettings:
        unknown = given.keys() - _SETTINGS
        if unknown:
            raise unknown_options(unknown, ContentOptions.__annotations__, ClientOptions.__annotations__)
        given = dict(given)
        if given.get("auth") is not None:
            given["auth"] = as_auth(given["auth"])
        return attrs.evolve(self.settings, **given)

    def _default_fields(self, host: bytes) -> wire.Headers:
        if self._defaults.get(b"host") is not None:
            return self._defaults
        return wire.Headers([(b"Host", host), *self._defaults.raw_items()])


def _content_of(
    content: ContentInput | None, json: Any, data: ParamsInput | None, files: FormInput | None
) -> tuple[bytes | Content, bytes | None]:
    """Return the content and the Content-Type that goes with it."""
    given = (content is not None) + (json is not UNSET) + (data is not None or files is not None)
    if not given:
        return b"", None
    if given > 1:
        raise InvalidRequest("give at most one of content, json and data (which may have files beside it)")
    if json is not UNSET:
        try:
            text = jsonlib.dumps(json, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
        except (TypeError, ValueError) as exc:
            raise InvalidRequest(f"json cannot be encoded: {exc}") from exc
        return text.encode(), b"application/json"
    if files is not None:
        form = Multipart(data, files)
        assert form.content_type is not None
        return form if form.whole is None else form.whole, form.content_type.encode("latin-1")
    if data is not None:
        return form_encoded(data).encode(), b"application/x-www-form-urlencoded"
    if isinstance(content, MessageBody) and content.length == 0:
        return b"", None  # a request without a body is passed on as one
    body = as_content(content)
    if isinstance(body, bytes) or body.content_type is None:
        return body, None
    return body, body.content_type.encode("latin-1")


def _compressed(content: bytes | Content, coding: str) -> tuple[bytes | Content, bytes]:
    """Return content under a content coding, and the value of its Content-Encoding."""
    try:
        encoder = ContentEncoder(coding)
    except ValueError as exc:
        raise InvalidRequest(f"compress={coding!r}: {exc}") from exc
    if isinstance(content, bytes) and len(content) <= _CODED_AT_ONCE_BYTES:
        return encoder.encode(content) + encoder.finish(), coding.encode("ascii")
    return Compressed(content, functools.partial(ContentEncoder, coding)), coding.encode("ascii")


def _method_of(method: object) -> bytes:
    if not isinstance(method, str):
        raise InvalidRequest(f"a method must be a str, not {method!r}")
    if method.upper() == "CONNECT":
        raise InvalidRequest(
            "CONNECT opens a tunnel (RFC 9110 §9.3.6), which is not a request with a response"
        )
    try:
        return method.encode("ascii")
    except UnicodeEncodeError as exc:
        raise InvalidRequest(f"malformed method {method!r}, expected a token (RFC 9110 §9.1)") from exc


def _target_of(target: object) -> bytes:
    if not isinstance(target, str | bytes):
        raise InvalidRequest(f"a target must be a str or bytes, not {target!r}")
    try:
        return target if isinstance(target, bytes) else target.encode("ascii")
    except UnicodeEncodeError as exc:
        raise InvalidRequest(f"malformed target {target!r}, expected visible ASCII (RFC 9112 §3.2)") from exc
