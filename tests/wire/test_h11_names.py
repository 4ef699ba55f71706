"""The names, sentinels and error classes that a program written for h11 imports, on h11 itself and on ours.

Each test runs on both modules: h11 is the oracle, so a wrong reading of h11 fails just as a wrong imitation
does.
"""

import copy
import enum
import importlib
import importlib.resources
import pickle
from types import ModuleType

import h11
import pytest

from tests.wire.differences import row

PUBLIC = """
    Connection NEED_DATA PAUSED
    ConnectionClosed Data EndOfMessage Event InformationalResponse Request Response
    CLIENT CLOSED DONE ERROR IDLE MUST_CLOSE SEND_BODY SEND_RESPONSE SERVER SWITCHED_PROTOCOL
    ProtocolError LocalProtocolError RemoteProtocolError
""".split()

ROLES = ["CLIENT", "SERVER"]
STATES = """
    IDLE SEND_BODY SEND_RESPONSE DONE MUST_CLOSE CLOSED ERROR MIGHT_SWITCH_PROTOCOL SWITCHED_PROTOCOL
""".split()
SENTINELS = [*ROLES, *STATES, "NEED_DATA", "PAUSED"]


@pytest.fixture(params=["h11", "trio_http.wire"])
def lib(request: pytest.FixtureRequest) -> ModuleType:
    return importlib.import_module(request.param)


def test_every_public_name_is_exported(lib: ModuleType) -> None:
    assert set(PUBLIC) <= set(lib.__all__)
    assert [name for name in PUBLIC if not hasattr(lib, name)] == []


def test_a_star_import_brings_the_public_names(lib: ModuleType) -> None:
    namespace: dict[str, object] = {}
    exec(f"from {lib.__name__} import *", namespace)
    assert set(PUBLIC) <= set(namespace)


def test_names_documented_outside_all_are_importable(lib: ModuleType) -> None:
    assert repr(lib.MIGHT_SWITCH_PROTOCOL) == "MIGHT_SWITCH_PROTOCOL"
    assert isinstance(lib.__version__, str)
    product, _, version = lib.PRODUCT_ID.partition("/")
    assert product
    assert version == lib.__version__


def test_the_package_says_that_it_is_typed(lib: ModuleType) -> None:
    package = importlib.resources.files(lib.__name__.partition(".")[0])
    assert package.joinpath("py.typed").is_file()


def test_the_default_limit_is_where_real_programs_look_for_it(lib: ModuleType) -> None:
    connection = importlib.import_module(lib.__name__ + "._connection")
    assert connection.DEFAULT_MAX_INCOMPLETE_EVENT_SIZE == 16 * 1024
    assert connection.Connection is lib.Connection


def test_the_headers_class_is_where_real_programs_look_for_it(lib: ModuleType) -> None:
    headers = importlib.import_module(lib.__name__ + "._headers")
    event = lib.EndOfMessage(headers=[("a", "b")])
    assert type(event.headers) is headers.Headers


def test_other_private_modules_of_h11_are_not_imitated() -> None:
    row("PRIVATE-MODULES")
    for name in ("_readers", "_abnf", "_receivebuffer"):
        importlib.import_module("h11." + name)
        with pytest.raises(ModuleNotFoundError):
            importlib.import_module("trio_http.wire." + name)


@pytest.mark.parametrize("name", SENTINELS)
def test_a_sentinel_is_its_own_type(lib: ModuleType, name: str) -> None:
    sentinel = getattr(lib, name)
    assert type(sentinel) is sentinel
    assert isinstance(sentinel, sentinel)


@pytest.mark.parametrize("name", SENTINELS)
def test_a_sentinel_is_shown_by_its_bare_name(lib: ModuleType, name: str) -> None:
    sentinel = getattr(lib, name)
    assert repr(sentinel) == name
    assert str(sentinel) == name
    assert f"{sentinel}" == name
    assert sentinel.__name__ == name


@pytest.mark.parametrize("name", SENTINELS)
def test_a_sentinel_is_true_and_equal_only_to_itself(lib: ModuleType, name: str) -> None:
    sentinel = getattr(lib, name)
    others = [getattr(lib, other) for other in SENTINELS if other != name]
    assert bool(sentinel) is True
    assert sentinel == sentinel
    assert not any(sentinel == other for other in others)
    assert not any(sentinel is other for other in others)
    assert sentinel not in others
    assert sentinel != name


@pytest.mark.parametrize("name", SENTINELS)
def test_a_sentinel_is_a_key_of_dicts_and_a_member_of_sets(lib: ModuleType, name: str) -> None:
    sentinel = getattr(lib, name)
    assert {sentinel: 1}[sentinel] == 1
    assert sentinel in {sentinel}
    assert hash(sentinel) == hash(sentinel)


@pytest.mark.parametrize("name", SENTINELS)
def test_a_sentinel_stays_itself_when_copied_or_pickled(lib: ModuleType, name: str) -> None:
    sentinel = getattr(lib, name)
    assert copy.copy(sentinel) is sentinel
    assert copy.deepcopy(sentinel) is sentinel
    assert pickle.loads(pickle.dumps(sentinel)) is sentinel


@pytest.mark.parametrize("name", SENTINELS)
def test_a_sentinel_is_a_class_and_no_enum_member(lib: ModuleType, name: str) -> None:
    sentinel = getattr(lib, name)
    assert isinstance(sentinel, type)
    assert not isinstance(sentinel, enum.Enum)


def test_no_event_is_an_instance_of_a_sentinel_nor_the_reverse(lib: ModuleType) -> None:
    events = [lib.Data(b"x"), lib.EndOfMessage(), lib.ConnectionClosed()]
    for event in events:
        # httpcore asks exactly this of what `next_event` gave it.
        assert not isinstance(event, (lib.PAUSED, lib.NEED_DATA))
    assert not isinstance(lib.PAUSED, (lib.Data, lib.EndOfMessage, lib.Event))
    assert isinstance(lib.PAUSED, (lib.EndOfMessage, lib.PAUSED))


def test_the_events_share_one_base_class(lib: ModuleType) -> None:
    for name in ("Request", "InformationalResponse", "Response", "Data", "EndOfMessage", "ConnectionClosed"):
        assert issubclass(getattr(lib, name), lib.Event)
    assert not issubclass(lib.Response, lib.InformationalResponse)
    assert not issubclass(lib.InformationalResponse, lib.Response)


def test_the_protocol_error_itself_is_abstract(lib: ModuleType) -> None:
    with pytest.raises(TypeError):
        lib.ProtocolError("message")


@pytest.mark.parametrize("name", ["LocalProtocolError", "RemoteProtocolError"])
def test_a_protocol_error_has_a_text_and_a_status_hint(lib: ModuleType, name: str) -> None:
    cls = getattr(lib, name)
    assert issubclass(cls, lib.ProtocolError)
    assert issubclass(lib.ProtocolError, Exception)
    plain = cls("what happened")
    assert str(plain) == "what happened"
    assert plain.args == ("what happened",)
    assert plain.error_status_hint == 400
    assert cls("x", 501).error_status_hint == 501
    assert cls("x", error_status_hint=431).error_status_hint == 431


def test_local_and_remote_errors_are_told_apart_by_class(lib: ModuleType) -> None:
    assert not issubclass(lib.LocalProtocolError, lib.RemoteProtocolError)
    assert not issubclass(lib.RemoteProtocolError, lib.LocalProtocolError)


@pytest.mark.parametrize("name", ["LocalProtocolError", "RemoteProtocolError"])
def test_a_protocol_error_survives_pickling_with_its_hint(lib: ModuleType, name: str) -> None:
    error = pickle.loads(pickle.dumps(getattr(lib, name)("text", error_status_hint=501)))
    assert type(error) is getattr(lib, name)
    assert str(error) == "text"
    assert error.error_status_hint == 501


def test_an_error_of_ours_names_the_section_of_the_standard() -> None:
    row("ERROR-SECTION")
    wire = importlib.import_module("trio_http.wire")
    conn = wire.Connection(wire.SERVER)
    conn.receive_data(b"GET /\r\n\r\n")
    with pytest.raises(wire.RemoteProtocolError) as caught:
        conn.next_event()
    assert caught.value.section.startswith("RFC 9112 ")
    assert not hasattr(h11.RemoteProtocolError("x"), "section")
