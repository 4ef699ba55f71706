"""The file of a recording: what it can hold, how it shows it, and what is refused with the place (C64)."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_http import Headers
from trio_http.testing import RecordedExchange, RecordedRequest, RecordedResponse, Recording


def exchange(target: str, content: bytes) -> RecordedExchange:
    return RecordedExchange(
        request=RecordedRequest(method="GET", host="testserver", target=target, content=content),
        response=RecordedResponse(status=200),
    )


texts = st.text(st.characters(max_codepoint=0xFF, exclude_categories=["Cc"])).map(
    lambda text: text.strip(" ")
)
headers = st.lists(st.tuples(st.from_regex(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+", fullmatch=True), texts)).map(
    Headers
)
contents = st.binary() | st.text().map(str.encode)


@given(
    st.builds(
        RecordedExchange,
        request=st.builds(
            RecordedRequest, method=texts, host=texts, target=texts, headers=headers, content=contents
        ),
        response=st.builds(
            RecordedResponse, status=st.integers(200, 999), reason=st.none() | texts, headers=headers,
            content=contents, trailers=headers,
        ),
    )
)  # fmt: skip
def test_a_file_holds_any_exchange(exchange: RecordedExchange) -> None:
    text = Recording([exchange]).to_json()
    text.encode("utf-8")
    (found,) = Recording.from_json(text).exchanges
    assert found == exchange


def test_text_with_characters_that_nobody_sees_is_not_shown_as_text() -> None:
    for content, member in ((b"a\tb\r\n", "text"), (b"a\x1bb", "base64"), (b"\xff", "base64")):
        document = json.loads(Recording([exchange("/", content)]).to_json())
        assert member in document["exchanges"][0]["request"]


def test_long_base64_is_several_lines() -> None:
    document = json.loads(Recording([exchange("/", bytes(100))]).to_json())
    assert [len(line) for line in document["exchanges"][0]["request"]["base64"]] == [76, 60]


DOCUMENT = json.loads(Recording([exchange("/a", b"x")]).to_json())


@pytest.mark.parametrize(
    ("at", "value", "text"),
    [
        (["form"], "trio-http recording 9", 'an object with "form": "trio-http recording 1"'),
        (["exchanges"], None, 'the recording must have "exchanges" with a list, not None'),
        (["exchanges", 0], 5, "exchange 1 must be an object, not 5"),
        (["exchanges", 0, "response"], "x", 'exchange 1 must have "response" with a dict'),
        (["exchanges", 0, "request", "method"], 5, 'the request of exchange 1 must have "method" with a str'),
        (["exchanges", 0, "request", "text"], "x", 'must have "text" with a list'),
        (["exchanges", 0, "request", "text"], [5], 'must have "text" with a list of str'),
        (["exchanges", 0, "request", "base64"], ["eA=="], '"text" or "base64", not both'),
        (["exchanges", 0, "response", "status"], 101, 'must have "status" with 200-999, not 101'),
        (["exchanges", 0, "response", "reason"], None, 'must have "reason" with a str'),
        (["exchanges", 0, "response", "headers"], ["x"], "the field line 'x'"),
        (["exchanges", 0, "response", "headers"], ["a b: c"], "has a malformed field"),
        (["exchanges", 0, "response", "headers"], ["a: \u20ac"], "has a malformed field"),
    ],
)
def test_a_file_that_is_no_recording_is_refused_with_the_place(at: list[Any], value: Any, text: str) -> None:
    document = json.loads(json.dumps(DOCUMENT))
    place = document
    for key in at[:-1]:
        place = place[key]
    place[at[-1]] = value
    with pytest.raises(ValueError, match=re.escape(text)):
        Recording.from_json(json.dumps(document))


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "3"])
def test_what_is_no_json_object_is_no_recording(text: str) -> None:
    with pytest.raises(ValueError, match="a recording is"):
        Recording.from_json(text)


def test_malformed_base64_is_refused() -> None:
    document = json.loads(Recording([exchange("/", b"\xff")]).to_json())
    document["exchanges"][0]["request"]["base64"] = ["/w="]
    with pytest.raises(ValueError, match='the request of exchange 1 has a malformed "base64"'):
        Recording.from_json(json.dumps(document))


def test_a_file_that_is_not_there_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Recording.load(tmp_path / "none.json")
    assert os.listdir(tmp_path) == []
