"""The proxies that a process's environment names."""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping
from typing import Final

from trio_http._errors import InvalidRequest

from ._no_proxy import NoProxy
from ._origin import DEFAULT_PORTS, Origin
from ._proxy import Proxy

#: What a CGI program's environment has (RFC 3875 §4.1.12).
_CGI: Final = "REQUEST_METHOD"


class EnvironmentProxies:
    """Chooses proxies by http_proxy, https_proxy, all_proxy and no_proxy.

    The variables are read once, here, and later changes are not seen. Each is looked for in lower case and
    then in capitals; one that is empty or blank is passed over. For an origin the variable of its scheme
    counts, and all_proxy when that has none.

    - HTTP_PROXY in capitals is ignored where REQUEST_METHOD is set: in a CGI program it is not the
      administrator's word but the Proxy field of a request, that is, anybody's (CVE-2016-5385, "httpoxy").
    - A value without a scheme is the host and port of an http proxy.
    - no_proxy is explained at `NoProxy`; in particular ``localhost`` goes through the proxy unless it is
      named there.

    Args:
      environ: the variables; None: those of the process.

    Raises:
      InvalidRequest: a variable has a value that cannot be used; the text names the variable, and has no
        credentials in it.
    """

    __slots__ = ("_by_scheme", "_no_proxy", "proxy_for")

    def __init__(self, environ: Mapping[str, str] | None = None) -> None:
        # A plain dict, for on Windows the process's own mapping takes lower case and capitals for the same.
        given = dict(os.environ if environ is None else environ)
        if _CGI in given:
            given.pop("HTTP_PROXY", None)
        self._no_proxy = _no_proxy_of(given)
        rest = _proxy_of(given, "all_proxy")
        self._by_scheme = {scheme: _proxy_of(given, f"{scheme}_proxy") or rest for scheme in DEFAULT_PORTS}
        # A program asks for few origins, and for each of them often.
        self.proxy_for = functools.lru_cache(maxsize=256)(self._choose)
        """Return the proxy for an origin; None when it is to be asked directly. A `ProxyChooser`."""

    def __repr__(self) -> str:
        proxies = ", ".join(f"{scheme}: {proxy}" for scheme, proxy in self._by_scheme.items())
        return f"<{type(self).__name__} {proxies}, {self._no_proxy!r}>"

    def _choose(self, origin: Origin) -> Proxy | None:
        if self._no_proxy.covers(origin.host, origin.port):
            return None
        return self._by_scheme[origin.scheme]


def _value_of(environ: Mapping[str, str], name: str) -> tuple[str, str]:
    """Return the name under which a variable was found, and its value; an empty value when there is none."""
    for spelling in (name, name.upper()):
        if value := environ.get(spelling, "").strip():
            return spelling, value
    return name, ""


def _proxy_of(environ: Mapping[str, str], name: str) -> Proxy | None:
    spelling, value = _value_of(environ, name)
    if not value:
        return None
    try:
        return Proxy.from_url(value if "://" in value else f"http://{value}")
    except InvalidRequest as exc:
        raise InvalidRequest(f"environment variable {spelling}: {exc}") from exc


def _no_proxy_of(environ: Mapping[str, str]) -> NoProxy:
    spelling, value = _value_of(environ, "no_proxy")
    try:
        return NoProxy(value)
    except ValueError as exc:
        raise InvalidRequest(f"environment variable {spelling}: {exc}") from exc
