"""A reverse proxy: passes every request on to one server, and its answer back, both as they come.

    python examples/reverse_proxy.py http://127.0.0.1:8000

Nothing is held: a slow reader slows the server down, and a client that goes away ends the request to it.
"""

from __future__ import annotations

import argparse

import trio

from trio_http import Client, HTTPException, Request, RequestFailed, serve_tcp


async def pass_on(client: Client, upstream: str, request: Request) -> None:
    """Answer ``request`` with what ``upstream`` answers to it."""
    try:
        async with client.stream(
            request.method,
            upstream,
            target=request.target,
            headers=request.headers.end_to_end(),
            content=request.body,
            decode=False,  # what is coded for the client is for the client to decode
        ) as answer:
            fields = answer.headers.end_to_end()
            async with request.stream_response(answer.status, headers=fields) as body:
                async for chunk in answer.body:
                    await body.send_all(chunk)
                body.trailers = answer.trailers
    except RequestFailed as exc:
        raise HTTPException(502) from exc


async def main(upstream: str, port: int) -> None:
    """Serve until Ctrl+C."""
    async with Client(max_connections_per_origin=100) as client:

        async def handler(request: Request) -> None:
            await pass_on(client, upstream, request)

        async with trio.open_nursery() as nursery:
            server = await nursery.start(serve_tcp, handler, port)
            print(f"{server.url} leads to {upstream}", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("upstream", help="where requests go")
    parser.add_argument("--port", type=int, default=8001, help="0 for any")
    options = parser.parse_args()
    try:
        trio.run(main, options.upstream, options.port)
    except* KeyboardInterrupt:
        pass
