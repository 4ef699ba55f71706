"""Take files by PUT and keep them in a folder: streamed to disk, with a limit, whole or not at all.

    python examples/upload.py FOLDER [port]

    curl -T README.md http://127.0.0.1:8000/

Whoever reaches the port may write. It listens on 127.0.0.1 alone.
"""

import os
import re
import sys
import tempfile
from functools import partial

import trio

import trio_http

MAX_BYTES = 10_000_000
NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}")  # no folder, no hidden file, nothing to unquote


async def upload(folder: str, request: trio_http.Request) -> trio_http.Response:
    name = request.path[1:]
    if request.method != "PUT":
        raise trio_http.HTTPException(405, headers={"Allow": "PUT"})
    if not NAME.fullmatch(name):
        raise trio_http.HTTPException(404)
    request.limit_body(MAX_BYTES)  # 413 here and now, before a client that asks first sends any of it
    handle, part = tempfile.mkstemp(dir=folder, prefix=".part-")
    try:
        async with trio.wrap_file(os.fdopen(handle, "wb")) as file:
            async for chunk in request.body:  # no faster than the disk: the client has to wait
                await file.write(chunk)
        with request.finish(within=5):  # all is here: a client that leaves now has sent its file
            await trio.to_thread.run_sync(os.replace, part, os.path.join(folder, name))
    except BaseException:  # too large, too slow, gone: nothing is left
        os.unlink(part)
        raise
    return trio_http.Response(201, text=f"{name} is kept\n")


async def main(folder: str, port: int = 8000) -> None:
    async with trio.open_nursery() as nursery:
        server = await nursery.start(trio_http.serve_tcp, partial(upload, folder), port)
        print(f"Try: curl -T README.md {server.url}/", flush=True)


if __name__ == "__main__":
    try:
        trio.run(main, sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 8000)
    except* KeyboardInterrupt:
        pass
