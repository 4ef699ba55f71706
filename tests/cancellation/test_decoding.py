"""Responses with content codings, cancelled at every step of their reading, and the client closed at each."""

from __future__ import annotations

import contextlib
import gzip

import pytest
import trio
from trio.testing import MockClock

from tests.cancellation._scenes import Scene, close_at_every_step, sweep_scene
from trio_http import ContentTooLarge, Request, Response, ResponseIncomplete, ResponseInvalid
from trio_http.client import Client

PLAIN = bytes(range(256)) * 2000  # half a MiB; what is decoded comes in several pieces
CODED = gzip.compress(PLAIN)
THIRD = len(CODED) // 3


class _Coded(Scene):
    """A server whose answers are compressed: at once, piece by piece, broken, cut, or with trailers."""

    async def app(self, request: Request) -> Response | None:
        headers = {"content-encoding": "gzip"}
        match request.path:
            case "/whole":
                return Response(content=CODED, headers=headers)
            case "/broken":
                return Response(content=CODED[:THIRD] + bytes(100), headers=headers)
            case "/short":
                return Response(content=CODED[:-4], headers=headers)
        async with request.stream_response(headers={**headers, "trailer": "x-sum"}) as body:
            for start in range(0, len(CODED), THIRD):
                await body.send_all(CODED[start : start + THIRD])
                await trio.sleep(1)
            body.trailers = {"x-sum": "7"}
        return None


class _Whole(_Coded):
    lands = ("_read_whole", "_next_decoded")

    async def run(self, client: Client) -> None:
        assert (await client.get("/whole")).content == PLAIN
        response = await client.get("/pieces")
        assert (response.content, response.trailers["x-sum"]) == (PLAIN, "7")


class _Streamed(_Coded):
    lands = ("_next_decoded", "_next_coded", "next_data")

    async def run(self, client: Client) -> None:
        async with client.stream("GET", "/pieces") as response:
            assert b"".join([piece async for piece in response.body]) == PLAIN
            assert response.trailers["x-sum"] == "7"


class _PieceByPiece(_Coded):
    """Pieces of a size that the caller chooses: what is left over waits, and nothing of it is lost."""

    lands = ("_next_decoded",)

    async def run(self, client: Client) -> None:
        content = b""
        async with client.stream("GET", "/pieces") as response:
            while piece := await response.body.receive_some(60_000):
                assert len(piece) <= 60_000
                content += piece
        assert content == PLAIN


class _LeftHalfWay(_Coded):
    lands = ("_next_decoded", "run")

    async def run(self, client: Client) -> None:
        for path in ("/whole", "/pieces"):
            async with client.stream("GET", path) as response:
                assert PLAIN.startswith(await response.body.receive_some(10))
                await trio.lowlevel.checkpoint()


class _Bounded(_Coded):
    """More than the caller wants: told as soon as it is known, and the connection is closed."""

    options = {"max_content_bytes": 100_000}
    lands = ("_read_whole", "_next_decoded")

    async def run(self, client: Client) -> None:
        for path in ("/whole", "/pieces"):
            with contextlib.suppress(ContentTooLarge):
                await client.get(path)
                raise AssertionError("too much was returned")


class _Broken(_Coded):
    lands = ("_next_decoded",)

    async def run(self, client: Client) -> None:
        for path in ("/broken", "/short"):
            with contextlib.suppress(ResponseInvalid, ResponseIncomplete):
                await client.get(path)
                raise AssertionError("what cannot be decoded was returned")


class _NotDecoded(_Coded):
    options = {"decode": False}

    async def run(self, client: Client) -> None:
        assert (await client.get("/pieces")).content == CODED


SCENES = [_Whole, _Streamed, _PieceByPiece, _LeftHalfWay, _Bounded, _Broken, _NotDecoded]


@pytest.mark.parametrize("scene", SCENES)
async def test_a_coded_response_that_is_cancelled_leaves_nothing_behind(
    scene: type[Scene], autojump_clock: MockClock
) -> None:
    await sweep_scene(scene)


@pytest.mark.parametrize("scene", SCENES)
async def test_a_coded_response_whose_client_is_closed_fails_with_that(
    scene: type[Scene], autojump_clock: MockClock
) -> None:
    assert await close_at_every_step(scene) > 0
