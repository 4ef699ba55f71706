"""What users of other clients look for here, and where it is: for the texts of errors.

An error that only says that something does not exist sends its reader to the manual. These words are known
from httpx, requests and aiohttp, so what is meant by them is known, too.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Final

_TIME: Final = "time limits are cancel scopes, `with trio.fail_after(5): ...`"
_REDIRECTS: Final = "it is called follow_redirects here"
_TLS: Final = "TLS is set by Client(ssl_context=...), see trio_http.client_context"
_PROXIES: Final = "Client(proxy=...) takes a URL, or a function of the origin"

# What stands behind "there is no ... option:".
_OPTIONS: Final[Mapping[str, str]] = {
    "allow_redirects": _REDIRECTS,
    "redirect": _REDIRECTS,
    "max_redirect": "it is called max_redirects here",
    "timeout": _TIME,
    "read_timeout": _TIME,
    "connect_timeout": "dial_seconds is the limit for one dial; for a request, time limits are cancel scopes",
    "deadline": _TIME,
    "verify": "certificates are verified, always; Client(ssl_context=...) says by which authorities, see"
    " trio_http.client_context",
    "verify_ssl": _TLS,
    "ssl": _TLS,
    "cert": _TLS,
    "ca_certs": _TLS,
    "proxies": _PROXIES,
    "mounts": _PROXIES,
    "proxy_auth": "Proxy(credentials=(username, password)) has it",
    "trust_env": "Client(proxies_from_environment=True, auth=trio_http.NetrcAuth()) is what it stands for",
    "http1": "HTTP/1.1 is all there is",
    "http2": "HTTP/1.1 is all there is",
    "transport": "Client(dial=...) makes connections; for tests there is trio_http.testing.open_client",
    "app": "for tests there is trio_http.testing.open_client(handler)",
    "connector": "the settings of the pool are options of the client: max_connections, idle_seconds",
    "event_hooks": "instruments= are told what happens",
    "hooks": "instruments= are told what happens",
    "trace_configs": "instruments= are told what happens",
    "trace_config": "instruments= are told what happens",
    "params": "they are an option of each request",
    "retries": "retry=trio_http.Retry(attempts=...) is a policy",
    "max_retries": "retry=trio_http.Retry(attempts=...) is a policy",
    "raise_for_status": "responses have the method raise_for_status()",
    "stream": "`async with client.stream(method, url) as response:` streams",
    "extensions": "target=, on_interim= and report= are what it is used for",
    "body": "it is called content here, or json, data, files by what it is",
    "keepalive_expiry": "it is called idle_seconds here",
    "max_keepalive_connections": "max_connections is the limit for all connections",
    "default_encoding": "it is called charset here",
    "encoding": "it is called charset here",
    "cookie_jar": "it is called cookies here",
    "compression": "it is called compress here, or decode for responses",
    "chunked": "content of unknown length is chunked by itself",
    "expect100": 'headers={"Expect": "100-continue"} asks for it',
}  # fmt: skip

_STREAM: Final = "it is whole, see content; `async with client.stream(method, url) as response:` streams"
_OVER_BODY: Final = "iterate over `response.body`, with `async for`"
_STATUS: Final = "see status, or raise_for_status()"
_SET_COOKIES: Final = 'Client(cookies=True) keeps them; what came is headers.get_all("set-cookie")'
_HEAD_WORDS: Final[Mapping[str, str]] = {
    "status_code": "it is called status here",
    "reason_phrase": "it is called reason here",
    "ok": _STATUS,
    "is_success": _STATUS,
    "is_error": _STATUS,
    "is_client_error": _STATUS,
    "is_server_error": _STATUS,
    "is_redirect": "see status, and headers.get(\"location\")",
    "has_redirect_location": "see status, and headers.get(\"location\")",
    "next_request": "follow_redirects=True follows, and history has what came before",
    "cookies": _SET_COOKIES,
    "elapsed": "see timings",
    "content_type": 'see headers.get("content-type")',
    "links": 'see headers.get_all("link")',
    "request": "the url that was asked in the end is in url",
    "request_info": "the url that was asked in the end is in url",
    "http_version": "it is HTTP/1.1, or an older server's",
    "encoding": "Response.text goes by the Content-Type, else by charset=; for another one, decode the bytes",
    "charset": "Response.text goes by the Content-Type, else by charset=; for another one, decode the bytes",
    "extensions": "see interim, timings and trailers",
}  # fmt: skip
_WHOLE_WORDS: Final[Mapping[str, str]] = {
    **_HEAD_WORDS,
    **dict.fromkeys(("body", "iter_content", "iter_chunked", "iter_any"), _STREAM),
    **{
        f"{prefix}{what}": _STREAM
        for prefix in ("iter_", "aiter_")
        for what in ("bytes", "raw", "text", "lines")
    },
    "read": "the content is here: see content",
    "aread": "the content is here: see content",
    "raw": "decode=False leaves the content as it came",
    "aclose": "there is nothing to close: the content is here",
    "close": "there is nothing to close: the content is here",
    "release": "there is nothing to release: the content is here",
}
_STREAMED_WORDS: Final[Mapping[str, str]] = {
    **_HEAD_WORDS,
    "content": "`await response.read()` gives the content, or iterate over `response.body`",
    "text": "`await response.read()` gives bytes; client.get and its like give whole responses",
    "json": "`await response.read()` gives bytes; client.get and its like give whole responses",
    "aread": "it is called read here",
    **dict.fromkeys(
        ("iter_bytes", "aiter_bytes", "iter_content", "iter_chunked", "iter_any", "content_iter"), _OVER_BODY
    ),
    **dict.fromkeys(("iter_raw", "aiter_raw"), f"{_OVER_BODY}; decode=False leaves it as it came"),
    **dict.fromkeys(("iter_lines", "aiter_lines", "iter_text", "aiter_text"), "see lines(), or body"),
    "aclose": "leave the block, or close the body: `await response.body.aclose()`",
    "close": "leave the block, or close the body: `await response.body.aclose()`",
    "num_bytes_downloaded": "see body.received",
}


def unknown_options(
    unknown: Iterable[str], known: Collection[str], elsewhere: Collection[str] = ()
) -> TypeError:
    """Return the error for options that there are not, with what to do instead as far as that is known.

    Args:
      unknown: their names, at least one.
      known: those that there are.
      elsewhere: options of a client, where ``known`` are those of a request.
    """
    return TypeError("; and ".join(_no_option(name, known, elsewhere) for name in sorted(unknown)))


def _no_option(name: str, known: Collection[str], elsewhere: Collection[str]) -> str:
    if name == "cookies" and name in elsewhere:
        hint = 'Client(cookies=...) keeps them; for one request there is headers={"Cookie": ...}'
    elif name in elsewhere:
        hint = f"it is one of Client, `Client({name}=...)`"
    elif name in _OPTIONS:
        hint = _OPTIONS[name]
    elif alike := difflib.get_close_matches(name, known, 1):
        hint = f"did you mean {alike[0]}?"
    else:
        return f"there is no {name} option"
    return f"there is no {name} option{'' if name in _OPTIONS or not elsewhere else ' of a request'}: {hint}"


class Whole:
    """Gives the hints for a whole response. No cost for what there is."""

    __slots__ = ()
    _words: ClassVar[Mapping[str, str]] = _WHOLE_WORDS

    if not TYPE_CHECKING:  # or any name would do for a type checker

        def __getattr__(self, name: str) -> Any:
            raise no_attribute(f"{type(self).__name__!r} object", name, self._words, self)


class Streamed(Whole):
    """Gives the hints for a streamed response."""

    __slots__ = ()
    _words: ClassVar[Mapping[str, str]] = _STREAMED_WORDS


def no_attribute(what: str, name: str, words: Mapping[str, str], instance: object) -> AttributeError:
    """Return the error for an attribute that there is not."""
    hint = words.get(name)
    text = f"{what} has no attribute {name!r}" + (f"; {hint}" if hint else "")
    return AttributeError(text, name=name, obj=instance)
