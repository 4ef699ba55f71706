"""What the example shows to Prometheus, read by a reader of the text format that is strict."""

from __future__ import annotations

import importlib.util
import math
import re
from pathlib import Path
from types import ModuleType

import pytest

from tests.instruments.support import CONNECTION, closing, exchange
from trio_http.instruments import Counters, Instruments

PATH = Path(__file__).resolve().parents[2] / "examples" / "metrics.py"

# Prometheus, "Exposition formats", text format 0.0.4: names, a label in braces, a value.
SAMPLE = re.compile(r'([a-zA-Z_:][\w:]*)(?:\{([a-zA-Z_]\w*)="((?:[^"\\\n]|\\["\\n])*)"\})? (\S+)')


@pytest.fixture(scope="module")
def example() -> ModuleType:
    spec = importlib.util.spec_from_file_location("example_of_metrics", PATH)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Exposition:
    """The text format, taken apart.

    Attributes:
      kinds: the TYPE of each metric.
      samples: value by (name, label's value or None).
    """

    def __init__(self, text: str) -> None:
        assert text.endswith("\n")
        self.kinds: dict[str, str] = {}
        self.samples: dict[tuple[str, str | None], float] = {}
        helped = ""
        for line in text.splitlines():
            if line.startswith("# HELP "):
                _, _, helped, meaning = line.split(" ", 3)
                assert meaning
                assert helped not in self.kinds, "the lines of a metric stand together"
            elif line.startswith("# TYPE "):
                _, _, name, kind = line.split(" ")
                assert name == helped
                self.kinds[name] = kind
            else:
                match = SAMPLE.fullmatch(line)
                assert match is not None, line
                suffixes = ("_bucket", "_sum", "_count") if self.kinds[helped] == "histogram" else ("",)
                assert match[1] in [helped + suffix for suffix in suffixes]
                key = (match[1], match[3])
                assert key not in self.samples, "a sample stands once"
                self.samples[key] = float(match[4])


def fed() -> Counters:
    counters = Counters(duration_buckets=[0.1, 1])
    instruments = Instruments([counters])
    instruments.connection_opened(CONNECTION)
    instruments.connection_opened(CONNECTION)
    instruments.connection_refused(None, "too many connections")
    for number, record in enumerate(
        [
            exchange(duration=0.1, request_bytes=3),
            exchange(duration=0.5, status=404),
            exchange(duration=7, status=None, cancel_reason="client disconnected"),
            exchange(duration=0.25, status=500, error=ValueError()),
        ],
        start=1,
    ):
        instruments.exchange_started(CONNECTION, number, "GET", "/")
        instruments.exchange_finished(record)
    instruments.exchange_started(CONNECTION, 5, "GET", "/metrics")
    instruments.connection_closed(closing(why="client closed"))
    return counters


def test_all_numbers_are_there(example: ModuleType) -> None:
    assert Exposition(example.render(fed())).samples == {
        ("http_connections_total", None): 2,
        ("http_connections_open", None): 1,
        ("http_connections_refused_total", "too many connections"): 1,
        ("http_connections_closed_total", "client closed"): 1,
        ("http_exchanges_open", None): 1,
        ("http_responses_total", "2xx"): 1,
        ("http_responses_total", "4xx"): 1,
        ("http_responses_total", "5xx"): 1,
        ("http_responses_total", "none"): 1,
        ("http_cancelled_total", "client disconnected"): 1,
        ("http_handler_errors_total", None): 1,
        ("http_request_bytes_total", None): 3,
        ("http_response_bytes_total", None): 52,
        ("http_duration_seconds_bucket", "0.1"): 1,
        ("http_duration_seconds_bucket", "1"): 3,
        ("http_duration_seconds_bucket", "+Inf"): 4,
        ("http_duration_seconds_sum", None): 7.85,
        ("http_duration_seconds_count", None): 4,
    }


def test_a_server_that_has_done_nothing_has_its_totals_at_zero(example: ModuleType) -> None:
    shown = Exposition(example.render(Counters()))
    assert set(shown.samples.values()) == {0}
    assert ("http_connections_total", None) in shown.samples


def test_totals_are_counters_and_what_is_open_is_a_gauge(example: ModuleType) -> None:
    for name, kind in Exposition(example.render(fed())).kinds.items():
        expected = (
            "counter" if name.endswith("_total") else "gauge" if name.endswith("_open") else "histogram"
        )
        assert kind == expected


def test_the_histogram_ends_with_all_that_were_counted(example: ModuleType) -> None:
    samples = Exposition(example.render(fed())).samples
    bounds = [
        math.inf if key[1] == "+Inf" else float(key[1] or "nan") for key in samples if "_bucket" in key[0]
    ]
    assert bounds == sorted(bounds)
    assert samples["http_duration_seconds_bucket", "+Inf"] == samples["http_duration_seconds_count", None]


def test_a_label_may_hold_anything(example: ModuleType) -> None:
    counters = Counters()
    counters.cancelled['a "b"\\\nc'] = 1
    text = example.render(counters)
    assert r'http_cancelled_total{why="a \"b\"\\\nc"} 1' in text
    assert ("http_cancelled_total", r"a \"b\"\\\nc") in Exposition(text).samples
