"""The catalogue is complete: no public function without a case, no case without its function."""

from __future__ import annotations

from pathlib import Path

import pytest
from trio.testing import MockClock

from tests.conformance import _all_cases
from tests.conformance._cases import CASES, FAMILIES, Case, Family, Visit, case, family
from tests.conformance._exemptions import NO_CHECKPOINT, NO_TURN_FOR_OTHERS, NOT_CANCELLED
from tests.conformance._public import everything
from trio_http import Client, ClientConnection, messages

ASYNCHRONOUS = {name for name, entry in everything().items() if entry.kind in ("async", "block")}
SYNCHRONOUS = everything().keys() - ASYNCHRONOUS


def test_the_package_was_looked_at() -> None:
    """The lists are made by looking; this says that there was something to be seen."""
    names = everything()
    assert names["trio_http.Client.get"].kind == "async"
    assert names["trio_http.Client.stream"].kind == "sync"
    assert names["trio_http.Client.stream()"].kind == "block"
    assert names["trio_http.Response.text"].kind == "property"
    assert names["trio_http.serve_tcp"].kind == "async"
    assert names["trio_http.wire.Connection.next_event"].kind == "sync"
    assert names["trio_http.transport.Transport.__aexit__"].kind == "async"  # trio's, which users await
    assert names["trio_http.testing.memory_pair"].kind == "sync"
    assert "trio_http.RequestBody.receive_some" not in names  # as it is `MessageBody.receive_some`
    assert "trio_http.ClientConfig.__init__" not in names  # made by attrs
    assert len(ASYNCHRONOUS) > 150
    assert len(SYNCHRONOUS) > 450


def test_a_new_function_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Client, "brand_new", Client.warm, raising=False)
    monkeypatch.setattr(messages, "brand_new", messages.charset_of, raising=False)
    monkeypatch.setattr(messages, "charset_of", None)  # else it is another name for that
    monkeypatch.setattr(ClientConnection, "renewed", property(Client.statistics), raising=False)
    added = everything().keys() - ASYNCHRONOUS - SYNCHRONOUS
    assert added == {
        "trio_http.Client.brand_new",
        "trio_http.ClientConnection.renewed",
        "trio_http.messages.brand_new",
    }


def test_every_file_of_cases_is_imported() -> None:
    files = {path.stem for path in Path(__file__).parent.glob("*.py")}
    registering = {name for name in files if name.startswith(("cases_", "visits_"))}
    assert registering == {name for name in vars(_all_cases) if not name.startswith("_")}


def test_every_asynchronous_function_has_a_case() -> None:
    cased = {each.name for each in CASES.values()}
    missing = sorted(ASYNCHRONOUS - cased)
    assert not missing, f"tests/conformance/cases_*.py lack a case for {missing}"
    stale = sorted(cased - ASYNCHRONOUS)
    assert not stale, f"tests/conformance/cases_*.py have cases for what is not there any more: {stale}"


def test_every_synchronous_function_is_visited() -> None:
    visited = {name for each in FAMILIES.values() for name in each.names}
    missing = sorted(SYNCHRONOUS - visited)
    assert not missing, f"tests/conformance/visits_*.py do not visit {missing}"
    stale = sorted(visited - SYNCHRONOUS)
    assert not stale, f"tests/conformance/visits_*.py visit what is not there any more: {stale}"


def test_every_exemption_is_of_a_case() -> None:
    stale = {*NO_CHECKPOINT, *NO_TURN_FOR_OTHERS, *NOT_CANCELLED} - CASES.keys()
    assert not stale


def test_nothing_is_registered_twice() -> None:
    name = next(iter(CASES.values())).name
    with pytest.raises(ValueError, match="has a case already"):
        case(name, variant=next(iter(CASES.values())).variant)(lambda _: _no())
    with pytest.raises(ValueError, match="visited twice"):
        family(next(iter(FAMILIES)))(_nothing)


async def _no() -> None:
    raise AssertionError("never called")


async def _nothing(_: Visit) -> None:
    raise AssertionError("never called")


@pytest.mark.parametrize("visited", [pytest.param(each, id=name) for name, each in FAMILIES.items()])
async def test_no_synchronous_function_is_a_checkpoint(visited: Family, autojump_clock: MockClock) -> None:
    visit = Visit(visited.prefix, visited.names)
    await visited.play(visit)
    assert visit.called == visited.names


def test_a_case_is_named_by_its_function_and_its_variant() -> None:
    assert str(Case("a.b", lambda _: _no())) == "a.b"
    assert str(Case("a.b", lambda _: _no(), variant="c")) == "a.b[c]"
