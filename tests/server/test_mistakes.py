"""What everybody gets wrong in the first hour: each mistake is told, where it was made, with what to do."""

from __future__ import annotations

import logging
import math
import socket
import ssl
import warnings
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import pytest
import trio
import trio.testing

import trio_http
from trio_http import HTTPException, Leniency, Request, Response, ServerConfig, ServerRates, ServerTimes
from trio_http.instruments import AccessLog
from trio_http.testing import open_client

Serving = Callable[[], Awaitable[None]]


async def hello(request: Request) -> Response:
    return Response(200, text="hello\n")


async def told(handler: Any, caplog: pytest.LogCaptureFixture) -> BaseException:
    """The error that a handler's mistake has put into the log, when somebody posts to it."""
    async with open_client(handler) as client:
        with trio.fail_after(5):
            try:
                response = await client.post("/", content=b'{"a": 1}')
            except trio_http.ResponseIncomplete:
                pass  # the head was out
            else:
                assert response.status == 500
                assert response.text == "500 Internal Server Error\n"  # the client is told nothing
    (record,) = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert "<Request POST />" in record.getMessage()
    assert record.exc_info is not None
    assert record.exc_info[1] is not None
    return record.exc_info[1]


# ----------------------------------------------------------------------- a forgotten await


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda request: Response(200, request.read()),
            "content must be bytes, .* await missing before read",
        ),
        (
            lambda request: Response(200, text=request.text()),
            "text must be a str, .* await missing before text",
        ),
        (
            lambda request: Response(200, html=request.text()),
            "html must be a str, .* await missing before text",
        ),
        (lambda request: Response(200, json=request.json()), "await missing before json"),
    ],
    ids=["content", "text", "html", "json"],
)
async def test_a_forgotten_await_is_asked_for_and_python_does_not_warn_of_it_later(
    make: Callable[[Request], Response], message: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def handler(request: Request) -> Response:
        return make(request)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        error = await told(handler, caplog)
    assert isinstance(error, TypeError)
    with pytest.raises(TypeError, match=message):
        raise error


# ----------------------------------------------------------------------- what a handler returned


@pytest.mark.parametrize("returned", ["hello", {"a": 1}, None, (200, "hello"), HTTPException(404)], ids=repr)
async def test_a_handler_that_returns_no_response_is_told_what_it_returned_and_what_is_expected(
    returned: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async def handler(request: Request) -> Any:
        return returned

    message = str(await told(handler, caplog))
    assert repr(returned) in message
    assert "expected a Response" in message


async def test_a_response_behind_a_streamed_one_is_told(caplog: pytest.LogCaptureFixture) -> None:
    async def handler(request: Request) -> Response:
        async with request.stream_response(200) as body:
            await body.send_all(b"all of it")
        return Response(200)

    async with open_client(handler) as client:
        assert (await client.get("/")).text == "all of it"  # what was complete stays so
    (record,) = caplog.records
    assert record.exc_info is not None
    assert "beside its streamed response, expected None" in str(record.exc_info[1])


async def test_a_plain_function_as_handler_fails_as_a_handler_does(caplog: pytest.LogCaptureFixture) -> None:
    def handler(request: Request) -> Response:
        return Response(200)

    error = await told(handler, caplog)
    assert isinstance(error, TypeError)


# ----------------------------------------------------------------------- what is put in an answer


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (
            lambda: Response(200, "hello"),
            TypeError,
            "content must be bytes, not str; for text there is text=",
        ),
        (lambda: Response(200, text=b"hello"), TypeError, "text must be a str, not bytes"),
        (lambda: Response(200, text=5), TypeError, "text must be a str, not int"),
        (lambda: Response(200, html=b"hello"), TypeError, "html must be a str, not bytes"),
        (lambda: Response(200, json=b"hello"), TypeError, "JSON can hold: .* bytes"),
        (lambda: Response(200, json={"a": {1}}), TypeError, "JSON can hold: .* set"),
        (lambda: Response("hello"), TypeError, "status must be an int, not str"),
        (lambda: Response(200, text="a", content=b"a"), TypeError, "at most one of content, text"),
        (lambda: Response(204, text="a"), ValueError, "204 has no content, got 1 bytes"),
        (lambda: Response(200, headers="a: b"), TypeError, "mapping or pairs, not 'a: b'"),
        (lambda: Response(200, headers=5), TypeError, "mapping or pairs, not 5"),
        (lambda: Response(200, headers={"Age": 5}), TypeError, "field 'Age' must .* str or bytes, got 5"),
        (lambda: Response(200, headers={5: "a"}), TypeError, "field 5 must .* str or bytes, got 5"),
        (lambda: HTTPException(200), ValueError, "300-599, not 200; return a Response instead"),
        (lambda: HTTPException("404"), TypeError, "status must be an int, not '404'"),
        (lambda: HTTPException(404, b"no"), TypeError, "text must be a str, not bytes"),
    ],
)
def test_an_answer_that_cannot_be_is_refused_where_it_is_made(
    make: Callable[[], object], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        make()


def test_an_illegal_field_is_told_without_the_story_of_how_it_was_found() -> None:
    with pytest.raises(trio_http.wire.LocalProtocolError, match="illegal value") as caught:
        Response(200, headers={"X-Lines": "a\r\nb"})
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


@pytest.mark.parametrize(("data", "message"), [("hello", r"not str; .*\.encode\(\)"), (None, "not NoneType")])
async def test_a_piece_that_is_no_bytes_is_refused_before_anything_of_it_is_sent(
    data: Any, message: str
) -> None:
    async def handler(request: Request) -> None:
        async with request.stream_response(200) as body:
            with pytest.raises(TypeError, match=message):
                await body.send_all(data)
            await body.send_all(b"hello")

    async with open_client(handler) as client:
        assert (await client.get("/")).text == "hello"


# ----------------------------------------------------------------------- reading the request


@pytest.mark.parametrize("second", ["read", "text", "json"])
async def test_content_that_is_read_twice_is_the_handlers_mistake_and_not_the_clients(
    second: str, caplog: pytest.LogCaptureFixture
) -> None:
    """It used to be empty the second time, so that `Request.json` answered 400."""

    async def handler(request: Request) -> Response:
        await request.json()
        return Response(200, json=await getattr(request, second)())

    error = await told(handler, caplog)
    assert isinstance(error, RuntimeError)
    assert "read before" in str(error)


async def test_content_that_is_not_there_may_be_read_twice() -> None:
    async def handler(request: Request) -> Response:
        return Response(200, await request.read() + await request.read())

    async with open_client(handler) as client:
        assert (await client.get("/")).content == b""
        assert (await client.post("/", content=b"")).content == b""


async def test_the_rest_of_a_stream_that_was_begun_can_be_read_whole() -> None:
    async def handler(request: Request) -> Response:
        first = await request.body.receive_some(2)
        return Response(200, first + b"|" + await request.read())

    async with open_client(handler) as client:
        assert (await client.post("/", content=b"hello")).content == b"he|llo"


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda request: request.limit_body("1M"), "max_bytes must be a number of bytes, not '1M'"),
        (lambda request: request.finish("soon"), "within must be a number of seconds, not 'soon'"),
        (lambda request: request.stream_response("200"), "status must be an int, not '200'"),
    ],
)
async def test_what_a_request_is_asked_with_must_be_of_its_kind(
    ask: Callable[[Request], object], message: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def handler(request: Request) -> Response:
        ask(request)
        return Response(200)

    error = await told(handler, caplog)
    assert isinstance(error, TypeError)
    assert str(error) == message


# ----------------------------------------------------------------------- the configuration


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ServerConfig(times=5), r"times must be a ServerTimes, not 5: times=ServerTimes\(\.\.\.\)"),
        (lambda: ServerConfig(rates={"body": 5}), "rates must be a ServerRates, not {'body': 5}"),
        (lambda: ServerConfig(limits=5), "limits must be a Limits, not 5"),
        (lambda: ServerConfig(trusted_proxies="10.0.0.0/8"), r"list of networks, not '10.*; .* \[\.\.\.\]"),
        (lambda: ServerConfig(lenient=Leniency.OBS_FOLD), "set of Leniency, not <Leniency.OBS_FOLD"),
        (lambda: ServerConfig(lenient={"OBS_FOLD"}), "set of Leniency, and 'OBS_FOLD' is none"),
        (lambda: ServerConfig(instruments=AccessLog()), r"list of ServerInstrument, not <.* \[\.\.\.\]"),
        (lambda: ServerConfig(instruments=[AccessLog]), r"AccessLog'> is none: AccessLog\(\) is one"),
        (lambda: ServerConfig(instruments=[5]), "and 5 is none$"),
        (lambda: ServerConfig(instruments=[dict]), "and <class 'dict'> is none$"),
        (lambda: ServerConfig(max_body_bytes="1M"), "max_body_bytes must be a number, not '1M'; math.inf"),
        (lambda: ServerConfig(max_connections=None), "max_connections must be a number, not None; math.inf"),
        (lambda: ServerConfig(max_connections=True), "max_connections must be a number, not True"),
        (lambda: ServerConfig(drain_bytes=math.inf), "drain_bytes must be an int, not inf"),
        (lambda: ServerConfig(connect="no"), "connect must be True or False, not 'no'"),
        (lambda: ServerConfig(server_name=5), "server_name must be a str, not 5; None for none"),
        (lambda: ServerTimes(head=None), "head must be a number, not None; math.inf"),
        (lambda: ServerRates(body="5"), "body must be a number, not '5'; 0 for no limit"),
        (lambda: ServerConfig(timeout=5), "timeout"),
    ],
)  # fmt: skip
def test_a_setting_of_the_wrong_kind_is_refused_by_its_name(make: Callable[[], object], message: str) -> None:
    with pytest.raises(TypeError, match=message) as caught:
        make()
    assert len(caught.value.args) == 1  # attrs would give its own objects as well


def test_a_word_that_is_no_choice_is_refused_with_those_that_are() -> None:
    with pytest.raises(ValueError, match="excess must be one of 'wait', 'refuse', not 'drop'"):
        ServerConfig(excess="drop")  # type: ignore[arg-type]


# ----------------------------------------------------------------------- starting to serve


async def no_argument() -> Response:
    return Response(200)


async def two_arguments(request: Request, more: object) -> Response:
    return Response(200)


async def yielding(request: Request) -> Any:
    yield b"hello"


class Application:
    async def __call__(self, request: Request) -> Response:
        return Response(200, text="called\n")

    async def method(self, request: Request) -> Response:
        return Response(200, text="method\n")


HANDLERS = [
    (None, "async function, not None"),
    (trio_http, "async function, not <module 'trio_http'"),
    (no_argument, "no_argument must take one argument, the request: too many"),
    (two_arguments, "two_arguments must take one argument, the request: missing .* 'more'"),
    (Application, "Application must take one argument"),
    (yielding, "yielding yields; .* Request.stream_response"),
]


@pytest.mark.parametrize(("handler", "message"), HANDLERS)
async def test_what_cannot_be_a_handler_is_refused_before_a_port_is_open(handler: Any, message: str) -> None:
    for serve in (
        partial(trio_http.serve_tcp, handler, 0),
        partial(trio_http.serve_ssl_over_tcp, handler, 0, ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)),
        partial(trio_http.serve_unix, handler, "never/made"),
        partial(trio_http.serve_connection, handler, trio.testing.memory_stream_pair()[0]),
    ):
        with trio.fail_after(5), pytest.raises(TypeError, match=message):
            await serve()


async def test_a_test_is_told_itself_what_cannot_be_a_handler() -> None:
    with pytest.raises(TypeError, match="must take one argument"):
        async with open_client(no_argument):  # type: ignore[arg-type]
            raise AssertionError("not reached")


async def test_a_handler_that_was_called_instead_of_named_is_told_so_and_python_does_not_warn() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(TypeError, match=r"not its coroutine: hello instead of hello\(\.\.\.\)"):
            await trio_http.serve_tcp(hello(None), 0)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("handler", "text"),
    [
        (Application(), "called\n"),
        (Application().method, "method\n"),
        (lambda request: hello(request), "hello\n"),
        (partial(two_arguments, more=5), ""),
    ],
    ids=["object", "method", "lambda", "partial"],
)
async def test_whatever_returns_an_awaitable_may_be_a_handler(handler: Any, text: str) -> None:
    async with open_client(handler) as client:
        response = await client.get("/")
    assert (response.status, response.text) == (200, text)


@pytest.mark.parametrize(
    ("port", "error", "message"),
    [
        ("8000", TypeError, "port must be an int, not '8000'"),
        (None, TypeError, "port must be an int, not None"),
        (-1, ValueError, "port must be 0-65535, not -1"),
        (70000, ValueError, "port must be 0-65535, not 70000"),  # the system would make 4464 of it
    ],
)
async def test_what_is_no_port_is_refused(port: Any, error: type[Exception], message: str) -> None:
    with trio.fail_after(5), pytest.raises(error, match=message):
        await trio_http.serve_tcp(hello, port)


@pytest.mark.interop
async def test_a_port_in_use_is_named_in_the_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with trio.fail_after(5), pytest.raises(OSError, match=f"port {port} of '127.0.0.1'") as caught:
            await trio_http.serve_tcp(hello, port)
    assert isinstance(caught.value.__cause__, OSError)
    assert caught.value.errno == caught.value.__cause__.errno


@pytest.mark.parametrize("context", [None, "cert.pem"])
async def test_a_port_for_tls_never_speaks_plainly_for_want_of_a_context(context: Any) -> None:
    """None used to serve plain HTTP there."""
    with trio.fail_after(5), pytest.raises(TypeError, match="ssl_context must be an "):
        await trio_http.serve_ssl_over_tcp(hello, 0, context)


@pytest.mark.parametrize("config", [5, {"times": 5}, ServerConfig, ServerTimes()], ids=str)
async def test_what_is_no_configuration_is_refused(config: Any) -> None:
    with trio.fail_after(5), pytest.raises(TypeError, match="config must be a ServerConfig, not"):
        await trio_http.serve_tcp(hello, 0, config=config)


async def test_listeners_must_be_listeners_and_some() -> None:
    """The ``accept`` of a plain socket used to stop the whole program."""
    with socket.create_server(("127.0.0.1", 0)) as plain, trio.fail_after(5):
        with pytest.raises(TypeError, match=r"expected a trio\.abc\.Listener, not <socket"):
            await trio_http.serve_listeners(hello, [plain])  # type: ignore[list-item]
        listener = trio.SocketListener(trio.socket.from_stdlib_socket(plain))
        with pytest.raises(
            TypeError, match=r"list of listeners, not .*; for a single one there is \[\.\.\.\]"
        ):
            await trio_http.serve_listeners(hello, listener)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="no listener to serve on"):
            await trio_http.serve_listeners(hello, [])


async def test_a_grace_that_is_no_number_is_refused_and_nothing_is_shut_down(nursery: trio.Nursery) -> None:
    stream, _ = trio.testing.memory_stream_pair()
    server = await nursery.start(trio_http.serve_connection, hello, stream)
    with pytest.raises(TypeError, match="grace must be a number of seconds, not 'soon'"):
        await server.shutdown("soon")
    assert not server.draining
    nursery.cancel_scope.cancel()
