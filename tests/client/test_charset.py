"""C41: text whose charset nobody names."""

from __future__ import annotations

from typing import Any

import pytest

from trio_http import Request, Response
from trio_http.testing import open_client

LATIN = "na\xefve".encode("latin-1")


def saying(content_type: str | None) -> Any:
    async def app(request: Request) -> Response:
        fields = {} if content_type is None else {"content-type": content_type}
        return Response(content=LATIN, headers=fields)

    return app


@pytest.mark.parametrize(
    ("content_type", "charset", "text"),
    [
        (None, "utf-8", "na\ufffdve"),
        ("text/plain", "latin-1", "na\xefve"),
        ("text/plain; charset=latin-1", "utf-8", "na\xefve"),
        ("text/plain; charset=utf-8", "latin-1", "na\ufffdve"),  # what is named counts
        ("text/plain; charset=x-unknown", "latin-1", "na\xefve"),
        (None, lambda content: "latin-1" if b"\xef" in content else None, "na\xefve"),
        (None, lambda content: None, "na\ufffdve"),
        (None, lambda content: "rot13", "na\ufffdve"),  # no charset, but a codec
    ],
)
async def test_text_is_decoded_by_what_is_named_or_else_by_the_clients_charset(
    content_type: str | None, charset: Any, text: str
) -> None:
    async with open_client(saying(content_type), charset=charset) as client:
        assert (await client.get("/")).text == text
    async with open_client(saying(content_type)) as client:
        assert (await client.get("/", charset=charset)).text == text


@pytest.mark.parametrize(("charset", "error"), [("x-unknown", ValueError), (8, TypeError)])
async def test_a_charset_that_is_none_is_refused(charset: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="charset"):
        async with open_client(saying(None), charset=charset):
            pass
