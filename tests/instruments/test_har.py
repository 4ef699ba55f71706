"""The archive of a client's exchanges, held to the form that HAR 1.2 describes (C63)."""

from __future__ import annotations

import gc
import json
import os
import re
import weakref
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from tests.instruments.client_support import EXCHANGE, WAITING, dial, exchange
from trio_http import ClientConnection, Headers
from trio_http.instruments import ClientExchangeRecord, ClientInstruments, HarRecorder
from trio_http.testing import ScriptedPeer

# The members that HAR 1.2 requires of each of its objects, and the types of their values.
REQUIRED: dict[str, dict[str, type | tuple[type, ...]]] = {
    "log": {"version": str, "creator": dict, "entries": list},
    "creator": {"name": str, "version": str},
    "entry": {
        "startedDateTime": str, "time": (int, float), "request": dict, "response": dict, "cache": dict,
        "timings": dict,
    },
    "request": {
        "method": str, "url": str, "httpVersion": str, "cookies": list, "headers": list, "queryString": list,
        "headersSize": int, "bodySize": int,
    },
    "response": {
        "status": int, "statusText": str, "httpVersion": str, "cookies": list, "headers": list,
        "content": dict, "redirectURL": str, "headersSize": int, "bodySize": int,
    },
    "content": {"size": int, "mimeType": str},
    "timings": {"send": (int, float), "wait": (int, float), "receive": (int, float)},
    "pair": {"name": str, "value": str},
}  # fmt: skip

# Those that it allows besides, as far as we write them. All others must begin with an underscore.
OPTIONAL: dict[str, dict[str, type | tuple[type, ...]]] = {
    "log": {"comment": str},
    "entry": {"serverIPAddress": str, "connection": str},
    "content": {"compression": int},
    "timings": {"blocked": (int, float), "dns": (int, float), "connect": (int, float), "ssl": (int, float)},
    "pair": {"path": str, "domain": str, "expires": str, "httpOnly": bool, "secure": bool},
}


def check_object(kind: str, found: dict[str, Any]) -> None:
    allowed = REQUIRED[kind] | OPTIONAL.get(kind, {})
    assert REQUIRED[kind].keys() <= found.keys(), kind
    for name, value in found.items():
        if not name.startswith("_"):
            assert isinstance(value, allowed[name]), (kind, name, value)
            assert isinstance(value, bool) is (allowed[name] is bool), (kind, name, value)


def check_archive(archive: dict[str, Any]) -> None:
    """Fail unless this is an archive in the form of HAR 1.2."""
    assert list(archive) == ["log"]
    log = archive["log"]
    check_object("log", log)
    check_object("creator", log["creator"])
    assert log["version"] == "1.2"
    for entry in log["entries"]:
        check_object("entry", entry)
        started = datetime.fromisoformat(entry["startedDateTime"])
        assert started.utcoffset() == timedelta(0)
        request, response, timings = entry["request"], entry["response"], entry["timings"]
        check_object("request", request)
        check_object("response", response)
        check_object("content", response["content"])
        check_object("timings", timings)
        lists = ("cookies", "headers", "queryString")
        for pair in [pair for part in (request, response) for name in lists for pair in part.get(name, ())]:
            check_object("pair", pair)
        assert all(value >= 0 for name, value in timings.items() if name in REQUIRED["timings"])
        assert all(value >= 0 or value == -1 for value in timings.values())
        parts = [value for name, value in timings.items() if value != -1 and name != "ssl"]
        assert entry["time"] == pytest.approx(sum(parts), abs=0.001)


def entry_of(record: ClientExchangeRecord, **options: Any) -> dict[str, Any]:
    """The one entry of an archive of one exchange."""
    recorder = HarRecorder(**options)
    ClientInstruments([recorder]).exchange_finished(record)
    archive = recorder.har()
    check_archive(archive)
    (entry,) = archive["log"]["entries"]
    assert isinstance(entry, dict)
    return entry


def pairs(named: list[dict[str, str]]) -> list[tuple[str, str]]:
    return [(each["name"], each["value"]) for each in named]


def timings(record: ClientExchangeRecord) -> list[float]:
    entry = entry_of(record)
    return [
        entry["timings"][name] for name in ("blocked", "dns", "connect", "ssl", "send", "wait", "receive")
    ]


# ---------------------------------------------------------------------------------------------- the entries


def test_an_archive_without_entries_is_one() -> None:
    check_archive(HarRecorder().har())


def test_an_exchange_is_an_entry_with_its_connection_and_its_sizes() -> None:
    """C63."""
    entry = entry_of(EXCHANGE)
    assert entry["startedDateTime"] == "2026-11-23T04:49:45.125+00:00"
    assert (entry["connection"], entry["serverIPAddress"]) == ("3", "192.0.2.7")
    request, response = entry["request"], entry["response"]
    assert (request["method"], request["url"], request["bodySize"]) == ("POST", EXCHANGE.url, 5)
    assert pairs(request["headers"]) == [("Host", "example.org"), ("Content-Length", "5")]
    assert pairs(request["queryString"]) == [("a", "1"), ("b", "")]
    head = b"POST /items?a=1&b= HTTP/1.1\r\nHost: example.org\r\nContent-Length: 5\r\n\r\n"
    assert request["headersSize"] == len(head)
    assert (response["status"], response["statusText"], response["httpVersion"]) == (
        201,
        "Created",
        "HTTP/1.1",
    )
    assert response["content"] == {"size": 9, "mimeType": "application/json"}
    assert response["bodySize"] == 9
    assert (entry["_outcome"], entry["_fate"], entry["_because"]) == ("complete", "kept", "response complete")
    assert (entry["_requestNumber"], entry["_attempt"], entry["_interims"]) == (8, 1, [103])


async def test_the_size_of_a_head_is_that_which_goes_out() -> None:
    peer = ScriptedPeer().expect_until(b"\r\n\r\n").send(b"HTTP/1.1 204 No Content\r\n\r\n")
    async with trio.open_nursery() as nursery, ClientConnection(peer.stream) as connection:
        nursery.start_soon(peer.play)
        await connection.delete("http://example.org/a?b", headers={"X-Name": "a \xe9 value", "x-empty": ""})
    request_line, *lines = bytes(peer.received).removesuffix(b"\r\n\r\n").split(b"\r\n")
    assert request_line == b"DELETE /a?b HTTP/1.1"
    fields = [(name, value.removeprefix(b" ")) for name, _, value in (line.partition(b":") for line in lines)]
    entry = entry_of(exchange(method="DELETE", target="/a?b", headers=Headers(fields)))
    assert entry["request"]["headersSize"] == len(peer.received)


def test_decoded_content_has_its_own_size_and_what_the_coding_saved() -> None:
    content = entry_of(exchange(decoded_bytes=100))["response"]["content"]
    assert (content["size"], content["compression"]) == (100, 91)


def test_a_redirect_says_where_to() -> None:
    record = exchange(status=302, response_headers=Headers({"Location": "/elsewhere"}))
    assert entry_of(record)["response"]["redirectURL"] == "/elsewhere"


def test_the_path_of_a_unix_socket_is_no_ip_address() -> None:
    assert "serverIPAddress" not in entry_of(exchange(connection=dial(address="/run/app.socket")))


def test_a_request_that_was_cancelled_without_an_answer_has_an_empty_one() -> None:
    """N16: what went out and what may have been done is in it all the same."""
    entry = entry_of(WAITING)
    assert "connection" not in entry
    assert entry["request"]["headersSize"] == -1
    assert (entry["response"]["status"], entry["response"]["_error"]) == (0, "cancelled")
    assert (entry["response"]["bodySize"], entry["response"]["httpVersion"]) == (-1, "")
    assert (entry["_outcome"], entry["_mayHaveActed"], entry["_fate"]) == ("cancelled", False, "none")


def test_a_failure_is_kept_as_text_and_lets_go_of_its_frames() -> None:
    class Held:
        pass

    def fail() -> weakref.ref[Held]:
        held = Held()
        try:
            raise ConnectionResetError("the peer went away")
        except ConnectionResetError as exc:
            recorder.exchange_finished(
                exchange(outcome="failed", error=exc, status=None, response_headers=None)
            )
        return weakref.ref(held)

    recorder = HarRecorder()
    held = fail()
    gc.collect()
    assert held() is None
    archive = recorder.har()
    check_archive(archive)
    assert archive["log"]["entries"][0]["response"]["_error"] == "ConnectionResetError: the peer went away"


# -------------------------------------------------------------------------------------------------- timings


def test_the_phases_of_a_new_connection_are_told_apart() -> None:
    """C62. In ms; "connect" holds "ssl", as the form wants it."""
    assert timings(EXCHANGE) == [0, 125, 875, 500, 250, 500, 1000]
    assert entry_of(EXCHANGE)["time"] == 2750


def test_a_used_connection_has_no_phases_of_its_own_and_its_wait_is_blocked() -> None:
    assert timings(exchange(number=2)) == [1000, -1, -1, -1, 250, 500, 1000]


def test_of_a_dial_that_began_before_the_request_only_the_rest_counts() -> None:
    assert timings(exchange(started=100.75)) == [0, -1, 250, 250, 250, 500, 1000]
    assert timings(exchange(started=101.0)) == [0, -1, -1, -1, 250, 500, 1000]


def test_a_dial_that_began_after_the_request_leaves_a_wait_before_it() -> None:
    assert timings(exchange(started=99.0)) == [1000, 125, 875, 500, 250, 500, 1000]


def test_an_answer_before_the_uploads_end_has_no_wait() -> None:
    assert timings(exchange(number=2, first_byte=101.125)) == [1000, -1, -1, -1, 250, 0, 1500]
    cut = exchange(number=2, sent=None, first_byte=101.125)
    assert timings(cut) == [1000, -1, -1, -1, 125, 0, 1625]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"first_byte": None}, [1000, -1, -1, -1, 250, 1500, 0]),
        ({"first_byte": None, "sent": None}, [1000, -1, -1, -1, 1750, 0, 0]),
        ({"first_byte": None, "sent": None, "leased": None}, [2750, -1, -1, -1, 0, 0, 0]),
    ],
)
def test_what_was_cut_short_ends_in_the_phase_that_it_was_in(
    changes: dict[str, Any], expected: list[float]
) -> None:
    assert timings(exchange(number=2, outcome="cancelled", **changes)) == expected


instants = st.lists(st.floats(0, 1000), min_size=9, max_size=9).map(sorted)


@given(
    instants,
    st.lists(st.booleans(), min_size=7, max_size=7),
    st.floats(-500, 500),
    st.sampled_from([1, 2]),
    st.booleans(),
)
def test_the_phases_always_come_to_the_whole(
    times: list[float], present: list[bool], shift: float, number: int, swapped: bool
) -> None:
    """Whatever is missing, wherever the dial lies, and also when the answer came before the upload's end."""
    resolved, connected, proxied, secured = (
        time if there else None for time, there in zip(times[1:5], present, strict=False)
    )
    connection = dial(
        started=times[0], resolved=resolved, connected=connected, proxied=proxied, secured=secured,
        finished=times[4],
    )  # fmt: skip
    started, leased, sent, first_byte, finished = (time + shift for time in times[4:])
    if swapped:
        sent, first_byte = first_byte, sent
    record = exchange(
        connection=connection, number=number, started=started, finished=finished,
        leased=leased if present[4] else None,
        sent=sent if present[4] and present[5] else None,
        first_byte=first_byte if present[4] and present[6] else None,
    )  # fmt: skip
    assert entry_of(record)["time"] == pytest.approx(record.duration * 1000, abs=0.01)


# ------------------------------------------------------------------------------------------------ redaction

SECRETS = Headers(
    [
        ("Authorization", "Bearer s3cret"),
        ("Cookie", "sid=s3cret; theme=s3cret"),
        ("Proxy-Authorization", "s3cret"),
        ("X-Api-Key", "k3y"),
    ]
)
SET_COOKIES = Headers(
    [
        ("Set-Cookie", "sid=s3cret; Path=/a; Domain=example.org; Secure; HttpOnly"),
        ("set-cookie", "s3cret"),
        ("Set-Cookie", "t=s3cret; Expires=Wed, 21 Oct 2026 07:28:00 GMT; Max-Age=5"),
        ("Set-Cookie", "u=s3cret; Expires=whenever"),
    ]
)
SECRET = exchange(headers=SECRETS, response_headers=SET_COOKIES)


def test_secrets_are_taken_out_and_their_form_is_left() -> None:
    entry = entry_of(SECRET)
    assert "s3cret" not in json.dumps(entry)
    assert pairs(entry["request"]["headers"]) == [
        ("Authorization", "Bearer redacted"),
        ("Cookie", "sid=redacted; theme=redacted"),
        ("Proxy-Authorization", "redacted"),
        ("X-Api-Key", "k3y"),
    ]
    assert pairs(entry["request"]["cookies"]) == [("sid", "redacted"), ("theme", "redacted")]
    assert pairs(entry["response"]["headers"])[1] == ("set-cookie", "redacted")
    first, _, third, fourth = entry["response"]["cookies"]
    assert first == {
        "name": "sid", "value": "redacted", "path": "/a", "domain": "example.org",
        "httpOnly": True, "secure": True,
    }  # fmt: skip
    assert third["expires"] == "2026-10-21T07:28:00+00:00"
    assert "expires" not in fourth


def test_secrets_are_kept_when_that_is_asked_for() -> None:
    entry = entry_of(SECRET, redact=())
    assert pairs(entry["request"]["headers"])[0] == ("Authorization", "Bearer s3cret")
    assert pairs(entry["response"]["cookies"])[0] == ("sid", "s3cret")


def test_other_fields_can_be_named_in_any_case() -> None:
    fields = pairs(entry_of(SECRET, redact=["X-API-Key"])["request"]["headers"])
    assert fields[0] == ("Authorization", "Bearer s3cret")
    assert fields[-1] == ("X-Api-Key", "redacted")


@given(st.text(st.characters(max_codepoint=0xFF, exclude_categories=["Cc"])).map(str.strip))
def test_any_cookie_of_a_peer_can_be_archived(value: str) -> None:
    value = value.strip("\x85\xa0")
    record = exchange(response_headers=Headers([("Set-Cookie", value), ("Location", value)]))
    for options in ({}, {"redact": ()}):
        json.dumps(entry_of(record, **options))


# -------------------------------------------------------------------------------------- bounds and the file


def test_only_the_newest_exchanges_are_kept_and_the_rest_is_counted() -> None:
    recorder = HarRecorder(max_entries=2)
    for number in range(5):
        recorder.exchange_finished(exchange(request_number=number))
    archive = recorder.har()
    check_archive(archive)
    assert [entry["_requestNumber"] for entry in archive["log"]["entries"]] == [3, 4]
    assert recorder.dropped == 3
    assert archive["log"]["comment"] == "3 exchanges before these were dropped"
    recorder.clear()
    assert recorder.har()["log"]["entries"] == []
    assert recorder.dropped == 0


def test_entries_stand_in_the_order_in_which_they_began() -> None:
    recorder = HarRecorder()
    for number, started in enumerate([100.5, 100.0, 100.25]):
        recorder.exchange_finished(exchange(request_number=number, started=started))
    assert [entry["_requestNumber"] for entry in recorder.har()["log"]["entries"]] == [1, 2, 0]


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [({"max_entries": 0}, ValueError, "at least 1, got 0"), ({"redact": "cookie"}, TypeError, "in a list")],
)
def test_bad_settings_are_refused(options: dict[str, Any], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=re.escape(text)):
        HarRecorder(**options)


async def test_the_file_is_the_archive_and_replaces_an_older_one(tmp_path: Path) -> None:
    path = tmp_path / "exchanges.har"
    path.write_text("older", "utf-8")
    recorder = HarRecorder()
    recorder.exchange_finished(exchange(url="https://example.org/ä", reason="caf\xe9"))
    await recorder.save(path)
    archive = json.loads(path.read_text("utf-8"))
    check_archive(archive)
    assert archive == recorder.har()
    assert os.listdir(tmp_path) == [path.name]


async def test_a_cancel_does_not_keep_the_file_from_being_written_whole(tmp_path: Path) -> None:
    path = tmp_path / "exchanges.har"
    recorder = HarRecorder()
    recorder.exchange_finished(EXCHANGE)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(recorder.save, path)
        await trio.testing.wait_all_tasks_blocked()  # in the thread, or done
        nursery.cancel_scope.cancel()
    assert json.loads(path.read_text("utf-8")) == recorder.har()


async def test_a_file_that_cannot_be_written_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        await HarRecorder().save(tmp_path / "no such folder" / "exchanges.har")
