"""What everybody who comes from another client gets wrong in the first hour: each mistake is told where it
was made, with what was given, what is expected, and what to do.
"""

from __future__ import annotations

import asyncio
import copy
import io
import math
import ssl
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

import trio_http
from trio_http import Client, ClientConfig, ClientConnection, ClientPace, InvalidRequest, RateLimit, Retry
from trio_http.testing import open_client

Make = Callable[[], object]
Ask = Callable[[Any], Awaitable[object]]  # of a client; types would tell most of these mistakes


async def hello(request: trio_http.Request) -> trio_http.Response:
    return trio_http.Response(200, json={"asked": request.target})


async def never(request: trio_http.Request) -> trio_http.Response:
    raise AssertionError("nothing may be sent")


# ----------------------------------------------------------------------- what a client is set to


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Client(timeout=5), r"no timeout option: time limits are .*fail_after\(5\)"),
        (lambda: Client(timeout=None), "no timeout option"),
        (lambda: Client(verify=False), r"no verify option: .* always; .*ssl_context.*client_context"),
        (lambda: Client(cert=("a", "b")), "no cert option: .*ssl_context.*client_context"),
        (lambda: Client(proxies={"http": "http://a:1"}), r"no proxies option: Client\(proxy=...\)"),
        (lambda: Client(mounts={}), r"no mounts option: Client\(proxy=...\)"),
        (lambda: Client(allow_redirects=True), "no allow_redirects option: .* follow_redirects"),
        (lambda: Client(trust_env=True), "no trust_env option: .*proxies_from_environment=True"),
        (lambda: Client(http2=True), "no http2 option: HTTP/1.1 is all"),
        (lambda: Client(transport=None), "no transport option: .*dial=.*open_client"),
        (lambda: Client(app=hello), "no app option: .*open_client"),
        (lambda: Client(event_hooks={}), "no event_hooks option: instruments="),
        (lambda: Client(params={}), "no params option: .* each request"),
        (lambda: Client(retries=3), r"no retries option: retry=trio_http.Retry\(attempts=...\)"),
        (lambda: Client(folow_redirects=True), r"no folow_redirects option: did you mean follow_redirects\?"),
        (lambda: Client(base_ulr="http://a/"), r"no base_ulr option: did you mean base_url\?"),
        (lambda: Client(flavour="sweet"), "no flavour option$"),
        (lambda: Client(verify=False, timeout=5), "no timeout option.*; and there is no verify option"),
        (lambda: Client("http://a.example"), "ClientConfig, not 'http://a.example'; .* is base_url="),
        (lambda: Client(ClientConfig(), decode=False), "as config or as options, not both"),
        (lambda: Client(limits=5), r"limits must be a Limits, not 5: limits=Limits\(...\)"),
        (lambda: Client(pace=5), r"pace must be a ClientPace, not 5: pace=ClientPace\(...\)"),
        (lambda: Client(retry=3), r"retry must be a Retry, not 3: retry=Retry\(...\); None for none"),
        (lambda: Client(rate_limit=3), "rate_limit must be a RateLimit, not 3"),
        (lambda: Client(cookies="a=b"), "a CookieJar, a mapping or a bool, not str"),
        (lambda: ClientConfig(cookies=True), r"cookies must be a CookieJar, not True: cookies=CookieJar\("),
        (lambda: Client(follow_redirects=1), "follow_redirects must be True or False, not 1"),
        (lambda: Client(decode=None), "decode must be True or False, not None"),
        (lambda: Client(max_connections="5"), "max_connections must be a number, not '5'; math.inf"),
        (lambda: Client(max_connections=None), "max_connections must be a number, not None; math.inf"),
        (lambda: Client(idle_seconds=None), "idle_seconds must be a number, not None; math.inf"),
        (lambda: Client(max_redirects=1.5), "max_redirects must be an int, not 1.5"),
        (lambda: Client(user_agent=None), "user_agent must be a str, not None"),
        (lambda: Client(dial=5), "dial must be a function, not 5"),
        (lambda: Client(resolver=5), "resolver must be a function, not 5"),
        (lambda: Client(tls_names="a"), "tls_names must be a mapping, such as a dict, not 'a'"),
        (lambda: Client(pinned_addresses=["a"]), "pinned_addresses must be a mapping, .* not "),
        (lambda: Client(pinned_certificates="a"), "pinned_certificates must be a mapping, .* not 'a'"),
        (lambda: Client(proxy={"http": "http://a:1"}), "proxy must be a Proxy, its URL, a function .*, not "),
        (lambda: Client(ssl_context=False), "ssl_context must be .*, not False; trio_http.client_context"),
        (lambda: Client(ssl_context="ca.pem"), "ssl_context must be .*, not 'ca.pem'; trio_http.client_con"),
        (lambda: Client(ssl_context=ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)), "ssl_context is one for serv"),
        (lambda: Client(auth="me:secret"), r"an Auth or a tuple \(username, password\), not str$"),
        (lambda: Client(auth=["me", "secret"]), "an Auth or a tuple .*, not list$"),
        (lambda: Client(headers="a: b"), "mapping or pairs, not 'a: b'"),
        (lambda: Client(headers={"a": 1}), "field 'a' must have .* str or bytes, got 1"),
        (lambda: Client(headers=["ab", "cde"]), "must be pairs of name and value, not .*'cde'"),
        (lambda: Client(lenient=trio_http.Leniency.OBS_FOLD), "set of Leniency, not <Leniency.OBS_FOLD"),
        (lambda: Client(instruments=trio_http.HarRecorder()), r"list of ClientInstrument, not .* \[...\]"),
        (lambda: Client(instruments=[trio_http.HarRecorder]), r"Recorder'> is none: HarRecorder\(\) is one"),
        (lambda: ClientPace(head=None), "head must be a number, not None; math.inf for no limit"),
        (lambda: ClientPace(receive_rate="1k"), "receive_rate must be a number, not '1k'; 0 for no limit"),
        (lambda: ClientConnection(5), "stream must be a trio.abc.Stream, not 5"),
        (lambda: ClientConnection("http://a/"), "not 'http://a/'; Client connects by itself"),
        (lambda: ClientConnection(trio.testing.memory_stream_pair()[0], config=5), "a ClientConfig, not 5"),
        (lambda: Retry(attempts="3"), "attempts must be an int, not '3'"),
        (lambda: Retry(statuses=500), r"statuses must be a set of int, not 500; .* \{\.\.\.\}"),
        (lambda: Retry(statuses=["500"]), "statuses must be a set of int, and '500' is none"),
        (lambda: Retry(methods="GET"), r"methods must be a set of str, not 'GET'; .* \{\.\.\.\}"),
        (lambda: Retry(methods=[b"GET"]), "methods must be a set of str, and b'GET' is none"),
        (lambda: Retry(backoff="1"), "backoff must be a number of seconds, not '1'"),
        (lambda: Retry(budget=5), "budget must be a RetryBudget, not 5"),
        (lambda: trio_http.RetryBudget("a tenth"), "ratio must be a number, not 'a tenth'"),
        (lambda: RateLimit("5"), "rate must be a number of turns for a second, not '5'"),
        (lambda: trio_http.BearerAuth(None), "token must be a str or an async callable .*, not NoneType"),
    ],
)  # fmt: skip
def test_a_setting_of_the_wrong_kind_is_refused_by_its_name(make: Make, message: str) -> None:
    with pytest.raises(TypeError, match=message) as caught:
        make()
    assert len(caught.value.args) == 1  # attrs would give its own objects as well


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Client(max_connections=0), "max_connections must be at least 1, not 0; math.inf"),
        (lambda: Client(idle_seconds=0), "idle_seconds must be more than 0, not 0; math.inf for no limit"),
        (lambda: Client(idle_seconds=float("nan")), "idle_seconds must be more than 0, not nan"),
        (lambda: Client(max_redirects=-1), "max_redirects must be at least 0, not -1"),
        (lambda: Client(local_address="eth0"), "local_address must be an IP address .*, not 'eth0'"),
        (lambda: Client(local_address=5), "local_address must be an IP address .*, not 5"),
        (lambda: Client(cookies={"a": "b"}), r"go to the host of base_url, .*; give one, or a CookieJar"),
        (lambda: Client(base_url="a.example"), "URL 'a.example' is not absolute, expected .* https://"),
        (lambda: Client(proxy="a.example:3128"), "is not absolute, expected one such as http://proxy"),
        (lambda: Client(user_agent="\u20ac"), "field 'User-Agent' is sent in Latin-1; .* bytes"),
        (lambda: Client(headers={"X-Name": "\u20ac"}), "field 'X-Name' is sent in Latin-1; .* bytes"),
        (lambda: ClientPace(stall=0), "stall must be more than 0, not 0"),
        (lambda: ClientPace(send_rate=math.inf), "send_rate must be finite and at least 0, not inf; 0 for"),
        (lambda: Retry(attempts=0), "attempts must be at least 1, not 0"),
        (lambda: Retry(statuses=[1000]), "statuses must be of 200-599, not 1000"),
        (lambda: trio_http.BearerAuth("Bearer abc"), "cannot have, .* without the word Bearer"),
    ],
)  # fmt: skip
def test_a_setting_out_of_its_range_is_refused_by_its_name(make: Make, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


# ----------------------------------------------------------------------- what there is not


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("get", "a client makes requests: `async with trio_http.Client"),
        ("AsyncClient", "called Client here"),
        ("ClientSession", "called Client here"),
        ("Timeout", r"cancel scopes, `with trio.fail_after\(5\)"),
        ("HTTPStatusError", "called StatusError here"),
        ("nothing_like_it", "no attribute 'nothing_like_it'$"),
    ],
)
def test_the_package_tells_what_another_ones_name_is_called_here(name: str, message: str) -> None:
    with pytest.raises(AttributeError, match=message):
        getattr(trio_http, name)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("status_code", "called status here"),
        ("ok", r"see status, or raise_for_status\(\)"),
        ("reason_phrase", "called reason here"),
        ("cookies", r'Client\(cookies=True\).*headers.get_all\("set-cookie"\)'),
        ("elapsed", "see timings"),
        ("encoding", "decode the bytes"),
        ("iter_lines", r"it is whole, see content; `async with client\.stream\("),
        ("aiter_bytes", r"it is whole, see content; `async with client\.stream\("),
        ("aread", "see content"),
        ("aclose", "nothing to close"),
        ("nothing_like_it", "'ReceivedResponse' object has no attribute 'nothing_like_it'$"),
    ],
)
async def test_a_whole_response_tells_where_it_has_what_others_have(name: str, message: str) -> None:
    async with open_client(hello) as client:
        response = await client.get("/")
    assert not hasattr(response, name)
    with pytest.raises(AttributeError, match=message):
        getattr(response, name)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("status_code", "called status here"),
        ("content", r"`await response\.read\(\)`.*`response\.body`"),
        ("json", r"`await response\.read\(\)` gives bytes; client\.get"),
        ("aread", "called read here"),
        ("aiter_bytes", "iterate over `response.body`, with `async for`"),
        ("aiter_raw", "decode=False"),
        ("aiter_lines", r"see lines\(\)"),
        ("aclose", r"leave the block, or .*response\.body\.aclose\(\)"),
    ],
)
async def test_a_streamed_response_tells_where_it_has_what_others_have(name: str, message: str) -> None:
    async with open_client(hello) as client, client.stream("GET", "/") as response:
        assert not hasattr(response, name)
        with pytest.raises(AttributeError, match=message):
            getattr(response, name)


async def test_a_streamed_response_itself_is_not_iterated_over() -> None:
    async with open_client(hello) as client, client.stream("GET", "/") as response:
        with pytest.raises(TypeError, match=r"`response\.body` for bytes, or `response\.lines\(\)` for text"):
            async for _ in response:  # type: ignore[attr-defined]
                raise AssertionError("not reached")
        assert await response.read() == b'{"asked":"/"}'  # and it is as good as before


# ----------------------------------------------------------------------- when, and how


async def test_a_client_that_is_not_open_says_how_to_open_it() -> None:
    client = Client()
    with pytest.raises(RuntimeError, match="not open: use it within `async with`"):
        await client.get("http://a.example/")
    with pytest.raises(RuntimeError, match="use `async with` for a client, not `with`"), client:
        raise AssertionError("not reached")


async def test_a_client_that_is_closed_stays_so() -> None:
    async with open_client(hello) as client:
        await client.get("/")
    with pytest.raises(trio_http.PoolClosed, match=r"the client is closed .* cannot have acted on it"):
        await client.get("/")
    with pytest.raises(RuntimeError, match="opened once; make another one"):
        async with client:
            raise AssertionError("not reached")


def test_a_client_for_several_runs_of_trio_is_told_to_be_made_in_each() -> None:
    client = Client()

    async def run() -> None:
        async with client:
            pass

    trio.run(run)
    with pytest.raises(RuntimeError, match="opened once; make another one"):
        trio.run(run)


def test_a_client_under_another_loop_says_what_it_needs() -> None:
    async def run() -> None:
        async with Client():
            raise AssertionError("not reached")

    with pytest.raises(RuntimeError, match=r"needs Trio: .* by trio\.run, not by asyncio"):
        asyncio.run(run())


async def test_an_answer_that_is_no_json_is_shown_as_what_it_is() -> None:
    async def app(request: trio_http.Request) -> trio_http.Response:
        return trio_http.Response(502, html="<h1>Bad gateway</h1>")

    async with open_client(app) as client:
        response = await client.get("/")
    with pytest.raises(ValueError, match="Expecting value") as caught:
        response.json()
    (note,) = caught.value.__notes__
    assert note == "This is no JSON: status 502, text/html; charset=utf-8, b'<h1>Bad gateway</h1>'"


async def test_what_is_a_block_is_not_awaited() -> None:
    async with open_client(never) as client:
        with pytest.raises(TypeError, match=r"`async with client\.upgrade\(url, protocol\) as stream:`"):
            await client.upgrade("/", "echo")  # type: ignore[misc]


async def test_a_stream_is_not_awaited() -> None:
    async with open_client(never) as client:
        with pytest.raises(TypeError, match=r"`async with client\.stream\(method, url\) as response:`"):
            await client.stream("GET", "/")  # type: ignore[misc]
        with pytest.raises(TypeError, match="use `async with`"), client.stream("GET", "/"):  # type: ignore[attr-defined]
            raise AssertionError("not reached")


async def test_a_body_is_not_there_behind_its_block() -> None:
    async with open_client(hello) as client:
        block = client.stream("GET", "/")
        async with block as response:
            pass
        with pytest.raises(trio.ClosedResourceError, match="within the block of `stream` only"):
            await response.read()
        with pytest.raises(RuntimeError, match=r"one `stream` is one request, .*; call it again"):
            async with block:
                raise AssertionError("not reached")


async def test_a_request_that_was_made_instead_of_named_cannot_race_and_python_does_not_warn() -> None:
    async with open_client(never) as client:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with pytest.raises(TypeError, match=r"not get\(url\) but functools\.partial\(get, url\)"):
                await trio_http.race(client.get("/"))  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="delay must be a number of seconds, not None; "):
            await trio_http.race(lambda: client.get("/"), delay=None)  # type: ignore[arg-type]


async def test_what_is_warmed_is_counted_in_whole_connections() -> None:
    async with open_client(never) as client:
        with pytest.raises(TypeError, match="connections must be an int, not '3'"):
            await client.warm("/", "3")  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="connections must be at least 1, not 0"):
            await client.warm("/", 0)


# ----------------------------------------------------------------------- what a request is made of


class Unknown:
    """No JSON has it."""


def pieces() -> Iterator[bytes]:
    yield b"hello"


async def later() -> AsyncIterator[bytes]:
    yield b"hello"


REFUSED: list[tuple[Ask, type[Exception], str]] = [
    (lambda client: client.get("example.org/x"), InvalidRequest, "not absolute, expected .*https://"),
    (lambda client: client.get("ftp://a.example/"), InvalidRequest, "scheme 'ftp', expected http or https"),
    (lambda client: client.get("http://a.example/b c"), InvalidRequest, "holds ' ', .* yarl.URL and params="),
    (lambda client: client.get("http://a.example/\xfc"), InvalidRequest, "holds '\xfc', .*yarl.URL"),
    (lambda client: client.get("http://me:secret@a.example/"), InvalidRequest, "credentials before .* Autho"),
    (lambda client: client.get("http://a.example:99999/"), InvalidRequest, "the port 99999, expected 1-6553"),
    (lambda client: client.get("/", headers={"a": 1}), TypeError, "field 'a' must .* str or bytes, got 1"),
    (lambda client: client.get("/", headers={"a": None}), TypeError, "'a' must .* str or bytes, got None"),
    (lambda client: client.get("/", headers="a: b"), TypeError, "mapping or pairs, not 'a: b'"),
    (lambda client: client.get("/", headers={"a"}), TypeError, "must be pairs of name and value, not {'a'}"),
    (lambda client: client.get("/", headers={"a": "b\r\nc"}), InvalidRequest, "illegal value .* of field b'"),
    (lambda client: client.get("/", headers={"a": "\u20ac"}), InvalidRequest, "field 'a' is sent in Latin-1"),
    (lambda client: client.get("/", params={"a": None}), InvalidRequest, "'a' is None, .*; leave out what h"),
    (lambda client: client.get("/", params={"a": {"b": 1}}), InvalidRequest, "'a' is {'b': 1}, .*; json="),
    (lambda client: client.get("/", params={"a": b"b"}), InvalidRequest, "'a' is b'b', expected a str"),
    (lambda client: client.get("/", params="a=b"), InvalidRequest, "mapping or pairs, not str; .* the URL"),
    (lambda client: client.get("/", params=["a"]), InvalidRequest, "entry 'a', expected a pair"),
    (lambda client: client.get("/", params=[("a", "b", "c")]), InvalidRequest, "entry .*, expected a pair"),
    (lambda client: client.get("/", auth="me:secret"), TypeError, r"an Auth or a tuple .*, not str$"),
    (lambda client: client.get("/", auth=("a", "b", "c")), TypeError, "not a tuple of 3$"),
    (lambda client: client.get("/", auth=lambda request: request), TypeError, "not function; .* BearerAuth"),
    (lambda client: client.get("/", follow_redirects=None), TypeError, "must be True or False, not None"),
    (lambda client: client.get("/", retry=3), TypeError, r"retry must be a Retry, not 3: retry=Retry\("),
    (lambda client: client.get("/", pace=3), TypeError, "pace must be a ClientPace, not 3"),
    (lambda client: client.get("/", decode="gzip"), TypeError, "decode must be True or False, not 'gzip'"),
    (lambda client: client.get("/", on_interim=3), TypeError, "on_interim must be a function, not 3"),
    (lambda client: client.get("/", report=3), TypeError, "report must be a function, not 3"),
    (lambda client: client.post("/", json={}, data={}), InvalidRequest, "at most one of content, json and d"),
    (lambda client: client.post("/", json=Unknown()), InvalidRequest, "json cannot be encoded: .* Unknown"),
    (lambda client: client.post("/", json=float("nan")), InvalidRequest, "json cannot be encoded"),
    (lambda client: client.post("/", content="hello"), InvalidRequest, r"a str, expected bytes: .*\.encode"),
    (lambda client: client.post("/", content={"a": 1}), InvalidRequest, "type dict, .*; data= .* json="),
    (lambda client: client.post("/", content=pieces()), InvalidRequest, "generator, .* async generator"),
    (lambda client: client.post("/", content=later), InvalidRequest, r"a function, .*: call later\(\)"),
    (lambda client: client.post("/", content=io.StringIO("a")), InvalidRequest, "text file, .* with 'rb'"),
    (lambda client: client.post("/", data="hello"), InvalidRequest, "mapping or pairs, not str; .* content="),
    (lambda client: client.post("/", data=io.BytesIO(b"a")), InvalidRequest, "not BytesIO; .* content="),
    (lambda client: client.post("/", data=pieces()), InvalidRequest, "entry b'hello', expected a pair"),
    (lambda client: client.post("/", files={"a": "hello"}), InvalidRequest, r"file 'a' .*\.encode\(\).*Path"),
    (lambda client: client.post("/", files={"a": io.StringIO("a")}), InvalidRequest, "file 'a' .* with 'rb'"),
    (lambda client: client.post("/", files=[io.BytesIO(b"a")]), InvalidRequest, "files has the entry <.* pa"),
    (lambda client: client.post("/", content=b"a", compress="lzma"), InvalidRequest, "'lzma', expected one "),
    (lambda client: client.request("GE T", "/"), InvalidRequest, "malformed method b'GE T', expected a toke"),
    (lambda client: client.request("CONNECT", "/"), InvalidRequest, "CONNECT opens a tunnel"),
]  # fmt: skip


@pytest.mark.parametrize(("ask", "error", "message"), REFUSED, ids=[message for *_, message in REFUSED])
async def test_a_request_that_cannot_be_is_refused_before_anything_is_sent(
    ask: Ask, error: type[Exception], message: str
) -> None:
    async with open_client(never, base_url="http://testserver/") as client:
        plain = Client() if message.startswith("not absolute") else client
        with pytest.raises(error, match=message):
            await ask(plain)
        counts = client.statistics()
        assert counts.leased == counts.waiting == counts.dialing == 0


@pytest.mark.parametrize(
    ("ask", "error", "message"),
    [
        (lambda client: client.get("/", timeout=5), TypeError, "no timeout option: .* cancel scopes"),
        (lambda client: client.get("/", verify=False), TypeError, "no verify option: .*ssl_context"),
        (lambda client: client.get("/", allow_redirects=True), TypeError, "no allow_red.* follow_redirects"),
        (lambda client: client.get("/", stream=True), TypeError, r"no stream option: `async with client\.st"),
        (lambda client: client.post("/", body=b""), TypeError, "no body option: it is called content here"),
        (lambda client: client.get("/", cookies={}), TypeError, "no cookies .* a request: .*Client.*headers"),
        (lambda client: client.get("/", proxy="http://a"), TypeError, r"of a request: .*`Client\(proxy="),
        (lambda client: client.get("/", param={}), TypeError, r"did you mean params\?"),
        (lambda client: client.get(None), InvalidRequest, "a URL must be a str or a yarl.URL, not None"),
        (lambda client: client.get(b"/"), InvalidRequest, "a URL must be a str or a yarl.URL, not b'/'"),
        (lambda client: client.request(None, "/"), InvalidRequest, "a method must be a str, not None"),
        (lambda client: client.request(b"GET", "/"), InvalidRequest, "a method must be a str, not b'GET'"),
        (lambda client: client.get("/", target=5), InvalidRequest, "a target must be a str or bytes, not 5"),
    ],
)  # fmt: skip
async def test_a_request_of_the_wrong_kind_is_refused_before_anything_is_sent(
    ask: Ask, error: type[Exception], message: str
) -> None:
    async with open_client(never) as client:
        with pytest.raises(error, match=message):
            await ask(client)


async def test_protocols_to_switch_to_are_arguments_and_no_list() -> None:
    async with open_client(never) as client:
        with pytest.raises(TypeError, match=r"each an argument of its own, not \['echo'\]"):
            async with client.upgrade("/", ["echo"]):  # type: ignore[arg-type]
                raise AssertionError("not reached")


async def test_pieces_of_text_are_refused_with_what_to_do() -> None:
    async def text() -> AsyncIterator[Any]:
        yield "hello"

    async def counting(request: trio_http.Request) -> trio_http.Response:
        return trio_http.Response(200, text=str(len(await request.read())))

    async with open_client(counting) as client:
        with pytest.raises(TypeError, match=r"must give bytes, not str; for text there is piece\.encode\(\)"):
            await client.post("/", content=text())
        assert (await client.get("/")).status == 200


async def test_a_file_that_is_not_there_is_the_systems_own_error(tmp_path: Path) -> None:
    async with open_client(never) as client:
        with pytest.raises(FileNotFoundError, match="missing"):
            await client.post("/", content=tmp_path / "missing.bin")
        with pytest.raises(FileNotFoundError, match="missing"):
            await client.post("/", files={"a": tmp_path / "missing.bin"})


async def test_names_with_and_without_a_hint_are_still_no_attributes() -> None:
    """The hints must not make each name an attribute for `hasattr` and `copy`."""
    async with open_client(hello) as client:
        response = await client.get("/")
    assert not hasattr(response, "anything")
    assert copy.copy(response).json() == response.json() == {"asked": "/"}
