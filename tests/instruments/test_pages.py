"""What the pages on watching a server show is what the code does."""

from __future__ import annotations

import json
import logging
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.instruments.support import EXCHANGE, exchange
from trio_http.instruments import AccessLog, Instruments

DOCS = Path(__file__).resolve().parents[2] / "docs"
REFERENCE = (DOCS / "reference" / "access-log.md").read_text("utf-8")
GUIDE = (DOCS / "how-to" / "watch-a-server.md").read_text("utf-8")

ACCESS = logging.getLogger("trio_http.access")


@pytest.fixture
def access_logger() -> Iterator[logging.Logger]:
    """The access log's own logger, put back as it was when the test ends."""
    before = (ACCESS.level, ACCESS.propagate)
    yield ACCESS
    ACCESS.setLevel(before[0])
    ACCESS.propagate = before[1]
    for handler in list(ACCESS.handlers):
        ACCESS.removeHandler(handler)
    for each in list(ACCESS.filters):
        ACCESS.removeFilter(each)


def program(heading: str) -> dict[str, Any]:
    """The names that the program under a heading of the guide defines, without running its main part."""
    (section,) = re.findall(rf"^## {heading}\n(.*?)(?=^## |\Z)", GUIDE, re.MULTILINE | re.DOTALL)
    (source,) = re.findall(r"^```python\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
    names: dict[str, Any] = {"__name__": "a_program_of_the_guide"}
    exec(compile(source, "watch-a-server.md", "exec"), names)
    return names


@pytest.mark.parametrize("form", ["common", "combined", "json"])
def test_the_reference_shows_each_form_as_it_is_written(
    form: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (shown,) = re.findall(rf"^<!-- the line of the {form} form -->\n```\n(.*)\n```$", REFERENCE, re.MULTILINE)
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "UTC0")
        time.tzset()
        caplog.set_level(logging.INFO, "trio_http.access")
        AccessLog(form).exchange_finished(EXCHANGE)
    time.tzset()
    assert caplog.messages == [shown]


def test_the_reference_has_each_key_of_the_json_form_in_order(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "trio_http.access")
    AccessLog("json").exchange_finished(EXCHANGE)
    _, _, section = REFERENCE.partition('\n## `"json"`\n')
    rows = re.findall(r"^\| `(\w+)` \| (\w+)(?: or null)? \|", section, re.MULTILINE)
    found = json.loads(caplog.messages[0])
    assert [name for name, _ in rows] == list(found)
    types = {"string": str, "number": (int, float)}
    for name, kind in rows:
        assert found[name] is None or isinstance(found[name], types[kind])  # type: ignore[arg-type]


def test_the_guides_first_program_shows_accesses(
    access_logger: logging.Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    program("Log each request")["show_accesses"]()
    AccessLog("combined").exchange_finished(EXCHANGE)
    printed = capsys.readouterr().out
    assert printed.startswith("192.0.2.1 - - [")
    assert printed.endswith('"curl/8.14.1"\n')
    assert printed.count("\n") == 1


def test_the_guides_queue_brings_every_line_to_the_file(
    access_logger: logging.Logger, tmp_path: Path
) -> None:
    path = tmp_path / "access.log"
    listener = program("Log to what may be slow")["open_access_log"](str(path))
    try:
        for number in range(100):
            AccessLog("json").exchange_finished(exchange(number=number))
    finally:
        listener.stop()
        for handler in listener.handlers:
            handler.close()
    lines = path.read_text("utf-8").splitlines()
    assert [json.loads(line)["exchange"] for line in lines] == list(range(100))


def test_the_guides_filter_leaves_health_checks_out(
    access_logger: logging.Logger, caplog: pytest.LogCaptureFixture
) -> None:
    program("Leave some requests out")
    caplog.set_level(logging.INFO, "trio_http.access")
    for target in ("/health", "/hello"):
        AccessLog("common").exchange_finished(exchange(target=target))
    assert len(caplog.messages) == 1
    assert "GET /hello HTTP/1.1" in caplog.messages[0]


def test_the_guides_alarm_rings_once_for_each_failure() -> None:
    rung: list[str] = []
    instruments = Instruments([program("Tell someone of failures")["Alarm"](rung.append)])
    instruments.exchange_finished(exchange())
    instruments.exchange_finished(exchange(error=ExceptionGroup("two", [ValueError("a"), KeyError("b")])))
    (line,) = rung
    assert line.startswith("GET '/hello?you=1' for 192.0.2.1: ExceptionGroup(")
    assert "ValueError('a')" in line
    assert "KeyError('b')" in line
