"""A server for bodies of a gibibyte, in a process of its own so that its memory can be told.

``python gigabyte_server.py`` prints its URL and serves until it is terminated. The bodies are made and
counted piece by piece:

    GET /body?SIZE     SIZE bytes with a Content-Length; /chunked?SIZE in chunks
    PUT /sink          takes up to a gibibyte and answers how many bytes came
    GET /peak          the most memory that this process has ever had resident, in bytes
"""

from __future__ import annotations

import os
import pathlib
import re
import sys

# A script's own folder heads `sys.path`; the project's is wanted, also when it is not installed.
sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))

import trio

import trio_http

GIBIBYTE = 1 << 30
PIECE = bytes(range(256)) * 256


def peak_bytes() -> int:
    """The high-water mark of this process's resident memory, as Linux counts it (proc(5), `VmHWM`)."""
    # Not `resource.getrusage`: its maximum is inherited from the process that started this one.
    found = re.search(r"^VmHWM:\s*(\d+) kB$", pathlib.Path("/proc/self/status").read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1]) * 1024


async def app(request: trio_http.Request) -> trio_http.Response | None:
    match request.method, request.path:
        case "GET", "/body" | "/chunked":
            left = int(request.query)
            headers = {"Content-Length": request.query} if request.path == "/body" else {}
            async with request.stream_response(200, headers=headers) as body:
                while left > 0:
                    await body.send_all(PIECE[:left])
                    left -= len(PIECE)
            return None
        case "PUT", "/sink":
            request.limit_body(GIBIBYTE)
            size = 0
            async for piece in request.body:
                size += len(piece)
            return trio_http.Response(200, text=str(size))
        case "GET", "/peak":
            return trio_http.Response(200, text=str(peak_bytes()))
    raise trio_http.HTTPException(404)


async def main() -> None:
    async with trio.open_nursery() as nursery:
        server = await nursery.start(trio_http.serve_tcp, app, 0)
        print(server.url, flush=True)


if __name__ == "__main__":
    trio.run(main)
