"""Validators, and the requests that depend on them (C42)."""

from __future__ import annotations

import pytest

from tests.client._files import LONG_AFTER, MODIFIED
from trio_http import Headers, Request, Response, Validators
from trio_http.testing import open_client

RFC_850 = "Sunday, 06-Nov-94 08:49:37 GMT"


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ([], Validators()),
        ([("ETag", '"v1"')], Validators('"v1"')),
        ([("ETag", 'W/"v1"')], Validators('W/"v1"')),
        ([("ETag", '""')], Validators('""')),
        ([("ETag", '"a,b"')], Validators('"a,b"')),
        ([("ETag", "v1")], Validators()),
        ([("ETag", 'w/"v1"')], Validators()),
        ([("ETag", '"a b"')], Validators()),
        ([("ETag", '"a"b"')], Validators()),
        ([("ETag", '"a"'), ("ETag", '"b"')], Validators()),
        ([("Last-Modified", MODIFIED), ("Date", LONG_AFTER)], Validators(None, MODIFIED, LONG_AFTER)),
        ([("Last-Modified", RFC_850)], Validators(None, RFC_850)),
        ([("Last-Modified", "yesterday"), ("Date", "0")], Validators()),
    ],
)
def test_validators_are_taken_from_fields_and_malformed_ones_left_out(
    fields: list[tuple[str, str]], expected: Validators
) -> None:
    assert Validators.of(Headers(fields)) == expected


@pytest.mark.parametrize(
    ("validators", "if_range"),
    [
        (Validators('"v1"'), '"v1"'),
        (Validators('"v1"', MODIFIED, LONG_AFTER), '"v1"'),
        (Validators('W/"v1"', MODIFIED, LONG_AFTER), None),
        (Validators(None, MODIFIED, LONG_AFTER), MODIFIED),
        (Validators(None, MODIFIED, "Sun, 06 Nov 1994 08:50:37 GMT"), MODIFIED),
        (Validators(None, MODIFIED, "Sun, 06 Nov 1994 08:50:36 GMT"), None),
        (Validators(None, MODIFIED, None), None),
        (Validators(None, None, LONG_AFTER), None),
    ],
)
def test_only_a_strong_validator_makes_a_range_conditional(
    validators: Validators, if_range: str | None
) -> None:
    """RFC 9110 §13.1.5."""
    assert validators.if_range() == if_range


def test_what_has_changed_is_asked_for_by_all_there_is() -> None:
    assert Validators().if_changed() == {}
    fields = Validators('W/"v1"', MODIFIED).if_changed()
    assert fields == {"If-None-Match": 'W/"v1"', "If-Modified-Since": MODIFIED}


def test_what_must_not_have_changed_needs_a_strong_validator() -> None:
    assert Validators('"v1"', MODIFIED, LONG_AFTER).if_unchanged() == {"If-Match": '"v1"'}
    assert Validators('W/"v1"', MODIFIED, LONG_AFTER).if_unchanged() == {"If-Unmodified-Since": MODIFIED}
    for weak in (Validators(), Validators('W/"v1"'), Validators(None, MODIFIED, MODIFIED)):
        with pytest.raises(ValueError, match="strong validator"):
            weak.if_unchanged()


@pytest.mark.parametrize(
    ("earlier", "later", "contradict"),
    [
        (Validators('"v1"', MODIFIED), Validators('"v1"', LONG_AFTER), False),
        (Validators('"v1"', MODIFIED), Validators('"v2"', MODIFIED), True),
        (Validators('"v1"'), Validators('W/"v1"'), True),
        (Validators('"v1"', MODIFIED), Validators(None, MODIFIED), False),
        (Validators('"v1"', MODIFIED), Validators(None, LONG_AFTER), True),
        (Validators('"v1"'), Validators(), False),
    ],
)
def test_two_states_are_told_from_each_other(
    earlier: Validators, later: Validators, contradict: bool
) -> None:
    assert earlier.contradict(later) is contradict


async def test_a_page_is_asked_for_again_and_changed_by_what_is_known_of_it() -> None:
    async def app(request: Request) -> Response:
        headers = {"etag": '"v1"'}
        if request.headers.get("if-none-match") == '"v1"':
            return Response(304, headers=headers)
        if request.headers.get("if-match", '"v1"') != '"v1"':
            return Response(412)
        return Response(200, text="hello", headers=headers)

    async with open_client(app) as client:
        known = Validators.of((await client.get("/")).headers)
        assert (await client.get("/", headers=known.if_changed())).status == 304
        assert (await client.put("/", content=b"a", headers=known.if_unchanged())).status == 200
        other = Validators('"v0"')
        assert (await client.put("/", content=b"a", headers=other.if_unchanged())).status == 412
