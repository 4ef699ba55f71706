"""The state machine as h11 documents it: its tables, as literals that are held to both modules.

They pin down our reading of h11; `test_h11_walk.py` then compares the two modules wherever else they can be
brought.
"""

import importlib
from collections.abc import Callable
from types import ModuleType
from typing import Any

import h11
import pytest

from tests.wire.differences import row
from tests.wire.h11_scenes import (
    CHUNKED,
    CLOSE,
    UPGRADE,
    brought,
    closed,
    end,
    head,
    names,
    request,
    response,
)


@pytest.fixture(params=["h11", "trio_http.wire"])
def lib(request: pytest.FixtureRequest) -> ModuleType:
    return importlib.import_module(request.param)


# How to bring our own side into each of its states.
RECIPES: dict[tuple[str, str], tuple[Any, ...]] = {
    ("CLIENT", "IDLE"): (),
    ("CLIENT", "SEND_BODY"): (request("POST", CHUNKED),),
    ("CLIENT", "DONE"): (request(), end),
    ("CLIENT", "MUST_CLOSE"): (request("GET", CLOSE), end),
    ("CLIENT", "CLOSED"): (closed,),
    ("CLIENT", "MIGHT_SWITCH_PROTOCOL"): (request("CONNECT"), end),
    ("CLIENT", "SWITCHED_PROTOCOL"): (request("CONNECT"), end, b"HTTP/1.1 200 OK\r\n\r\n"),
    ("SERVER", "IDLE"): (),
    ("SERVER", "SEND_RESPONSE"): (head(),),
    ("SERVER", "SEND_BODY"): (head(), response()),
    ("SERVER", "DONE"): (head(), response(), end),
    ("SERVER", "MUST_CLOSE"): (head(), response(200, CLOSE), end),
    ("SERVER", "CLOSED"): (closed,),
    ("SERVER", "SWITCHED_PROTOCOL"): (head(b"CONNECT"), response()),
}

SENDABLE: dict[str, Callable[[ModuleType], Any]] = {
    "Request": request(),
    "100": response(100),
    "101": response(101),
    "Response": response(),
    "Data": lambda lib: lib.Data(b"x"),
    "EndOfMessage": end,
    "ConnectionClosed": closed,
}

# What may be sent in each state, and the state it leads to. Nothing else may.
ALLOWED: dict[tuple[str, str], dict[str, str]] = {
    ("CLIENT", "IDLE"): {"Request": "SEND_BODY", "ConnectionClosed": "CLOSED"},
    ("CLIENT", "SEND_BODY"): {"Data": "SEND_BODY", "EndOfMessage": "DONE"},
    ("CLIENT", "DONE"): {"ConnectionClosed": "CLOSED"},
    ("CLIENT", "MUST_CLOSE"): {"ConnectionClosed": "CLOSED"},
    ("CLIENT", "CLOSED"): {"ConnectionClosed": "CLOSED"},
    ("CLIENT", "MIGHT_SWITCH_PROTOCOL"): {},
    ("CLIENT", "SWITCHED_PROTOCOL"): {},
    ("SERVER", "IDLE"): {"Response": "SEND_BODY", "ConnectionClosed": "CLOSED"},
    ("SERVER", "SEND_RESPONSE"): {"100": "SEND_RESPONSE", "Response": "SEND_BODY"},
    ("SERVER", "SEND_BODY"): {"Data": "SEND_BODY", "EndOfMessage": "DONE"},
    ("SERVER", "DONE"): {"ConnectionClosed": "CLOSED"},
    ("SERVER", "MUST_CLOSE"): {"ConnectionClosed": "CLOSED"},
    ("SERVER", "CLOSED"): {"ConnectionClosed": "CLOSED"},
    ("SERVER", "SWITCHED_PROTOCOL"): {},
}


def refusals(lib: ModuleType) -> tuple[type[Exception], ...]:
    """Return what a module raises for an event that is not allowed now."""
    row("ATTRIBUTE-ERROR")
    return (lib.LocalProtocolError, AttributeError) if lib is h11 else (lib.LocalProtocolError,)


@pytest.mark.parametrize("event", SENDABLE)
@pytest.mark.parametrize(("role", "state"), RECIPES)
def test_each_state_allows_just_these_events(lib: ModuleType, role: str, state: str, event: str) -> None:
    conn = brought(lib, role, *RECIPES[role, state])
    assert conn.our_state is getattr(lib, state)
    if event in ALLOWED[role, state]:
        conn.send(SENDABLE[event](lib))
        assert repr(conn.our_state) == ALLOWED[role, state][event]
    else:
        with pytest.raises(refusals(lib)):
            conn.send(SENDABLE[event](lib))
        assert conn.our_state is lib.ERROR


@pytest.mark.parametrize(
    ("role", "steps", "expected"),
    [
        pytest.param("SERVER", [head()], ("DONE", "SEND_RESPONSE"), id="a request moves both sides"),
        pytest.param("SERVER", [b""], ("CLOSED", "MUST_CLOSE"), id="client closed, server idle"),
        pytest.param("SERVER", [head(), b""], ("CLOSED", "SEND_RESPONSE"), id="half-closed after a request"),
        pytest.param(
            "SERVER", [head(), b"", response(), end], ("CLOSED", "MUST_CLOSE"), id="half-closed, answered"
        ),
        pytest.param("CLIENT", [b""], ("MUST_CLOSE", "CLOSED"), id="server closed, client idle"),
        pytest.param(
            "CLIENT",
            [request(), end, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", b""],
            ("MUST_CLOSE", "CLOSED"),
            id="server closed after its response",
        ),
        pytest.param(
            "CLIENT",
            [request(), end, b"HTTP/1.1 200 OK\r\n\r\n", b""],
            ("MUST_CLOSE", "CLOSED"),
            id="close-delimited",
        ),
        pytest.param(
            "SERVER",
            [head(b"GET", b"Connection: close")],
            ("MUST_CLOSE", "SEND_RESPONSE"),
            id="close by the request",
        ),
        pytest.param(
            "SERVER",
            [head(b"GET", b"Connection: x, Close"), response(), end],
            ("MUST_CLOSE", "MUST_CLOSE"),
            id="close within a list, any case",
        ),
        pytest.param(
            "SERVER", [head(), response(200, CLOSE)], ("MUST_CLOSE", "SEND_BODY"), id="close by the answer"
        ),
        pytest.param(
            "SERVER", [head(b"GET", version=b"1.0")], ("MUST_CLOSE", "SEND_RESPONSE"), id="HTTP/1.0 closes"
        ),
        pytest.param(
            "CLIENT",
            [request(), end, b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n"],
            ("MUST_CLOSE", "MUST_CLOSE"),
            id="an HTTP/1.0 response closes",
        ),
        pytest.param(
            "CLIENT",
            [request(), end, b"HTTP/1.1 100 Continue\r\nConnection: close\r\n\r\n"],
            ("DONE", "SEND_RESPONSE"),
            id="close on an interim response means nothing",
        ),
        pytest.param(
            "CLIENT",
            [request("CONNECT"), end, b"HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n"],
            ("DONE", "DONE"),
            id="CONNECT refused",
        ),
        pytest.param(
            "CLIENT",
            [request("CONNECT"), end, b"HTTP/1.1 299 OK\r\nContent-Length: 7\r\n\r\nx"],
            ("SWITCHED_PROTOCOL", "SWITCHED_PROTOCOL"),
            id="CONNECT accepted by any 2xx",
        ),
        pytest.param(
            "CLIENT",
            [
                request("GET", *UPGRADE),
                end,
                b"HTTP/1.1 101 Go\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\nrest",
            ],
            ("SWITCHED_PROTOCOL", "SWITCHED_PROTOCOL"),
            id="upgrade accepted",
        ),
        pytest.param(
            "CLIENT",
            [request("GET", *UPGRADE), end, b"HTTP/1.1 100 Wait\r\n\r\n"],
            ("MIGHT_SWITCH_PROTOCOL", "SEND_RESPONSE"),
            id="an interim response decides no upgrade",
        ),
        pytest.param(
            "CLIENT",
            [request("GET", *UPGRADE), end, b"HTTP/1.1 200 No\r\nContent-Length: 0\r\n\r\n"],
            ("DONE", "DONE"),
            id="upgrade refused",
        ),
        pytest.param(
            "SERVER",
            [head(b"GET", b"Connection: upgrade, close", b"Upgrade: x")],
            ("MIGHT_SWITCH_PROTOCOL", "SEND_RESPONSE"),
            id="a pending switch wins over close",
        ),
        pytest.param(
            "SERVER",
            [head(b"GET", b"Connection: upgrade, close", b"Upgrade: x"), response()],
            ("MUST_CLOSE", "SEND_BODY"),
            id="and close comes back when the switch is refused",
        ),
        pytest.param(
            "SERVER",
            [head(b"POST", b"Connection: upgrade", b"Upgrade: x", b"Content-Length: 1"), response(101)],
            ("SEND_BODY", "SWITCHED_PROTOCOL"),
            id="upgrade accepted before the body came",
        ),
        pytest.param(
            "SERVER",
            [head(b"POST", b"Connection: upgrade", b"Upgrade: x", b"Content-Length: 1"), response(101), b"x"],
            ("SWITCHED_PROTOCOL", "SWITCHED_PROTOCOL"),
            id="and complete once it has come",
        ),
        pytest.param("SERVER", [response(408), end], ("IDLE", "MUST_CLOSE"), id="an answer to nothing"),
    ],
)
def test_these_steps_lead_to_these_states(
    lib: ModuleType, role: str, steps: list[Any], expected: tuple[str, str]
) -> None:
    assert names(lib, brought(lib, role, *steps)) == expected


@pytest.mark.parametrize("refused", [request("CONNECT"), request("GET", *UPGRADE)])
def test_a_switch_that_was_refused_is_not_proposed_in_ours(refused: Callable[[ModuleType], Any]) -> None:
    row("SWITCH-AFTER-ERROR")
    wire = importlib.import_module("trio_http.wire")
    for lib, state in [(h11, h11.SWITCHED_PROTOCOL), (wire, wire.ERROR)]:
        conn = brought(lib, "CLIENT", request())
        with pytest.raises(lib.LocalProtocolError):
            conn.send(refused(lib))
        # Either of the two would complete the switch, had it been proposed.
        conn.receive_data(
            b"HTTP/1.1 101 Go\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\nHTTP/1.1 200 OK\r\n\r\n"
        )
        try:
            while conn.their_state not in (lib.SWITCHED_PROTOCOL, lib.ERROR):
                conn.next_event()
        except lib.RemoteProtocolError:
            pass
        if refused(lib).method != b"CONNECT":
            assert conn.their_state is state
