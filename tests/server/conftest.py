"""Every medium: a test that serves by `support.serve` runs over memory streams, TCP, TCP without the epoll,
and TLS.

Its name then ends in the medium: ``-k "not tls"`` leaves one out, ``-m "not interop"`` leaves memory streams
alone. What holds in one medium only is marked, with the reason:
``@pytest.mark.only_on("memory", reason="counts receives")``.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import trio.testing

from tests.server import media, support
from tests.server.media import Media, Medium


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers",
        "only_on(*media, reason): the media of tests/server/media.py in which a test holds, by name",
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if getattr(metafunc.module, "serve", None) is not support.serve:
        return
    if metafunc.definition.originalname not in media.that_serve(metafunc.module):
        return
    marks = list(metafunc.definition.iter_markers("only_on"))
    assert all(mark.kwargs.get("reason") for mark in marks), "only_on needs a reason"
    metafunc.parametrize(
        "medium",
        [
            pytest.param(medium, marks=[pytest.mark.interop] if medium.is_real else [], id=medium.value)
            for medium in Medium
            if all(medium in map(Medium, mark.args) for mark in marks)
        ],
        indirect=True,
    )


@pytest.fixture(autouse=True)
def medium(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Medium]:
    """The medium of `support.serve`. Over sockets the server has closed all of its own at the end."""
    made = Media(getattr(request, "param", Medium.MEMORY))
    monkeypatch.setattr(support, "media", made)
    before = media.descriptors() if made.medium.is_real else {}
    yield made.medium
    made.close()
    if made.medium.is_real:
        assert media.descriptors() == before


@pytest.fixture
def autojump_clock(medium: Medium) -> trio.testing.MockClock:
    """As pytest-trio's, but over sockets it does not jump while bytes are under way."""
    return trio.testing.MockClock(autojump_threshold=media.PAUSE if medium.is_real else 0)
