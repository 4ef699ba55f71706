"""The lines of a body as text (C34): where they end, by which charset, how long they may be."""

from __future__ import annotations

import itertools
import re

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from tests.client._network import END, client_of
from trio_http import Headers, LineTooLong, Request, ResponseIncomplete
from trio_http.messages import Lines
from trio_http.testing import ScriptedPeer, cancel_at_every_step, open_client

PLAIN = Headers()


class Pieces(trio.abc.ReceiveStream):
    """A body that comes in these pieces, each after a wait; and fails at the end, if told so."""

    def __init__(self, *pieces: bytes, error: Exception | None = None) -> None:
        self.left = list(pieces)
        self.error = error

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        await trio.lowlevel.checkpoint()
        if not self.left and self.error is not None:
            raise self.error
        return self.left.pop(0) if self.left else b""

    async def aclose(self) -> None:
        raise AssertionError("the body is the caller's to close")


async def all_of(lines: Lines) -> list[str]:
    return [line async for line in lines]


def in_charset(charset: str) -> Headers:
    return Headers({"Content-Type": f"text/plain; charset={charset}"})


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", []),
        (b"\n", [""]),
        (b"\r\n", [""]),
        (b"\r", [""]),
        (b"\n\r", ["", ""]),
        (b"a", ["a"]),
        (b"a\n", ["a"]),
        (b"a\nb", ["a", "b"]),
        (b"a\r\nb\rc\nd\r\n", ["a", "b", "c", "d"]),
        (b"a\n\n\nb", ["a", "", "", "b"]),
        (b"a\r\r\nb", ["a", "", "b"]),
        # What str.splitlines takes for an end, and JSON has in the midst of a text.
        ("a\u2028b\x0bc\x0cd\x1ce\x85f".encode(), ["a\u2028b\x0bc\x0cd\x1ce\x85f"]),
    ],
)
async def test_a_line_ends_with_lf_crlf_or_cr_however_it_comes(content: bytes, expected: list[str]) -> None:
    assert await all_of(Lines(Pieces(content), PLAIN)) == expected
    singly = [content[n : n + 1] for n in range(len(content))]
    assert await all_of(Lines(Pieces(*singly), PLAIN)) == expected


@given(st.lists(st.text(st.sampled_from("a\r\n\u2028é😀"))), st.sampled_from(["utf-8", "utf-16", "gb18030"]))
def test_lines_are_those_of_a_text_file_at_any_division(parts: list[str], charset: str) -> None:
    text = "".join(parts)
    content = text.encode(charset)
    ends = [len("".join(parts[:n]).encode(charset)) for n in range(len(parts) + 1)]
    # Divided in the midst of characters, too.
    ends = sorted({max(0, end - 1) for end in ends} | {0, len(content)})
    pieces = [content[a:b] for a, b in itertools.pairwise(ends) if a < b]
    expected = re.split("\r\n|\r|\n", text)
    if expected[-1] == "":
        expected.pop()
    assert trio.run(all_of, Lines(Pieces(*pieces), in_charset(charset))) == expected


@pytest.mark.parametrize(
    ("charset", "content", "expected"),
    [
        ("latin-1", b"\xe9\n\xe8", ["é", "è"]),
        ('"utf-8"', "é\nè".encode(), ["é", "è"]),
        ("utf-16-le", "é\n\u0a0a".encode("utf-16-le"), ["é", "\u0a0a"]),
        ("no-such-charset", "é".encode(), ["é"]),
        ("punycode", b"a-b", ["a-b"]),
        ("hex", b"6161", ["6161"]),
        ("utf-8", b"a\xffb\n\xc3", ["a\ufffdb", "\ufffd"]),
        ("utf-8", b"\xef\xbb\xbfa", ["\ufeffa"]),
    ],
)
async def test_the_charset_is_that_of_the_content_type(
    charset: str, content: bytes, expected: list[str]
) -> None:
    assert await all_of(Lines(Pieces(content), in_charset(charset))) == expected


async def test_a_line_is_given_as_soon_as_its_end_is_here_even_if_an_lf_may_follow() -> None:
    body = Pieces(b"a\r", b"\nb\r", b"c")
    lines = Lines(body, PLAIN)
    assert await anext(lines) == "a"
    assert len(body.left) == 2
    assert await anext(lines) == "b"
    assert len(body.left) == 1
    assert await all_of(lines) == ["c"]


@pytest.mark.parametrize("pieces", [[b"1234\n12345\n123456\n1\n"], [b"1234\n123", b"45\n12", b"3456\n1"]])
async def test_a_line_that_is_too_long_ends_the_lines(pieces: list[bytes]) -> None:
    lines = Lines(Pieces(*pieces), PLAIN, max_chars=5)
    assert [await anext(lines), await anext(lines)] == ["1234", "12345"]
    for _ in range(2):
        with pytest.raises(LineTooLong, match="line 3 of the body has more than 5 characters") as caught:
            await anext(lines)
        assert (caught.value.number, caught.value.limit) == (3, 5)


async def test_of_a_line_without_end_no_more_is_taken_than_it_may_have() -> None:
    body = Pieces(*[b"1234"] * 100)
    with pytest.raises(LineTooLong):
        await anext(Lines(body, PLAIN, max_chars=10))
    assert len(body.left) == 97


@pytest.mark.parametrize(("given_", "kind"), [(0, ValueError), (-1, ValueError), (1.5, TypeError)])
def test_a_bound_is_a_positive_integer(given_: int, kind: type[Exception]) -> None:
    with pytest.raises(kind):
        Lines(Pieces(), PLAIN, max_chars=given_)


async def test_an_error_comes_behind_the_lines_before_it() -> None:
    lines = Lines(Pieces(b"a\nb", error=OSError("lost")), PLAIN)
    assert await anext(lines) == "a"
    with pytest.raises(OSError, match="lost"):
        await anext(lines)


async def test_each_line_is_a_place_to_be_cancelled_at_and_none_is_lost() -> None:
    lines = Lines(Pieces(b"a\nb\n"), PLAIN)
    assert await anext(lines) == "a"
    with trio.CancelScope() as scope:
        scope.cancel()
        await anext(lines)
    assert scope.cancelled_caught
    assert await all_of(lines) == ["b"]
    with trio.testing.assert_checkpoints(), pytest.raises(StopAsyncIteration):
        await anext(lines)


async def test_lines_survive_a_cancel_at_every_step() -> None:
    seen: list[str] = []
    lines = [Lines(Pieces(), PLAIN)]

    async def scenario() -> None:
        seen.clear()
        lines[0] = Lines(Pieces(b"a\nb", b"c\r", b"\nd"), PLAIN)
        async for line in lines[0]:
            seen.append(line)

    async def check() -> None:
        async for line in lines[0]:
            seen.append(line)
        assert seen in ([], ["a", "bc", "d"])

    report = await cancel_at_every_step(scenario, check=check)
    assert any("__anext__" in point.within for point in report.points)


async def test_a_streamed_response_has_lines() -> None:
    async def app(request: Request) -> None:
        headers = {"content-type": "text/plain; charset=latin-1"}
        async with request.stream_response(200, headers=headers) as body:
            for number in range(3):
                await body.send_all(b"\xe9%d\n" % number)

    async with open_client(app) as client, client.stream("GET", "/") as response:
        assert [line async for line in response.lines()] == ["é0", "é1", "é2"]
        assert response.body.at_end
        async with client.stream("GET", "/") as second:
            with pytest.raises(LineTooLong):
                await anext(second.lines(max_chars=1))


async def test_lines_of_a_response_that_is_cut_end_with_its_error() -> None:
    peer = ScriptedPeer().expect_until(END).send(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\na\nb").close()
    async with client_of(peer) as (client, _), client.stream("GET", "http://a/") as response:
        lines = response.lines()
        assert await anext(lines) == "a"
        with pytest.raises(ResponseIncomplete):
            await anext(lines)
