"""A server that counts what it does, and shows the numbers to Prometheus on /metrics.

    python examples/metrics.py [port]

The numbers are for all to see who reach the service itself. On the internet, serve them on a port of their
own, by a second `serve_tcp`.
"""

import math
import sys
from functools import partial

import trio

import trio_http
from trio_http.instruments import Counters

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"  # Prometheus's text format


def render(counters: Counters) -> str:
    lines: list[str] = []

    def add(name: str, kind: str, text: str, samples: dict[str, float]) -> None:
        lines.extend([f"# HELP http_{name} {text}", f"# TYPE http_{name} {kind}"])
        lines.extend(f"http_{name}{suffix} {value}" for suffix, value in samples.items())

    def by(label: str, tally: dict[str, int]) -> dict[str, float]:
        return {f'{{{label}="{escape(key)}"}}': value for key, value in sorted(tally.items())}

    add("connections_total", "counter", "Connections opened.", {"": counters.connections_opened})
    add("connections_open", "gauge", "Connections open now.", {"": counters.connections_open})
    refused, closed = by("why", counters.connections_refused), by("why", counters.connections_closed)
    add("connections_refused_total", "counter", "Connections turned away.", refused)
    add("connections_closed_total", "counter", "Connections that have ended.", closed)
    add("exchanges_open", "gauge", "Requests being answered now.", {"": counters.exchanges_open})
    add("responses_total", "counter", "Exchanges finished.", by("status", counters.responses))
    add("cancelled_total", "counter", "Handlers cancelled.", by("why", counters.cancelled))
    add("handler_errors_total", "counter", "Handlers that failed.", {"": counters.handler_errors})
    add("request_bytes_total", "counter", "Content received.", {"": counters.request_bytes})
    add("response_bytes_total", "counter", "Content sent.", {"": counters.response_bytes})
    durations: dict[str, float] = {
        f'_bucket{{le="{"+Inf" if bound == math.inf else bound}"}}': count
        for bound, count in counters.cumulative_durations()
    }
    durations |= {"_sum": counters.duration_sum, "_count": sum(counters.duration_counts)}
    add("duration_seconds", "histogram", "From a request's head to the end of its answer.", durations)
    return "\n".join(lines) + "\n"


def escape(label: str) -> str:
    return label.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


async def main(port: int = 8000) -> None:
    counters = Counters()

    async def app(request: trio_http.Request) -> trio_http.Response:
        if request.path == "/metrics":
            return trio_http.Response(200, text=render(counters), headers={"Content-Type": CONTENT_TYPE})
        return trio_http.Response(200, text="Look at /metrics.\n")

    config = trio_http.ServerConfig(instruments=[counters])
    async with trio.open_nursery() as nursery:
        server = await nursery.start(partial(trio_http.serve_tcp, app, port, config=config))
        print(f"Serving on {server.url}/, counting on {server.url}/metrics", flush=True)


if __name__ == "__main__":
    try:
        trio.run(main, int(sys.argv[1]) if len(sys.argv) > 1 else 8000)
    except* KeyboardInterrupt:
        pass
