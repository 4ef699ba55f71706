"""Another protocol on an HTTP connection: here, one that says everything again. Server and client.

    python examples/echo_upgrade.py serve [port]
    python examples/echo_upgrade.py say [port]       # then type; Ctrl-D ends it

Once both have agreed, each has the connection as a Trio stream, with what the other has sent ahead.
"""

import sys

import trio

import trio_http


async def echo(request: trio_http.Request) -> trio_http.Response | None:
    if "echo" not in request.upgrade_protocols:
        return trio_http.Response(426, text="I only speak echo.\n", headers={"Upgrade": "echo"})
    async with request.upgrade("echo") as stream:
        async for chunk in stream:
            await stream.send_all(chunk)
    return None


async def serve(port: int) -> None:
    async with trio.open_nursery() as nursery:
        server = await nursery.start(trio_http.serve_tcp, echo, port)
        print(f"Echoing on {server.url}", flush=True)


async def say(port: int) -> None:
    async with trio_http.Client() as client, client.upgrade(f"http://127.0.0.1:{port}/", "echo") as stream:
        async for line in trio.wrap_file(sys.stdin.buffer):
            await stream.send_all(line)
            answer = b""
            while len(answer) < len(line) and (chunk := await stream.receive_some()):
                answer += chunk
            print("echo:", answer.decode(), end="", flush=True)


if __name__ == "__main__":
    try:
        trio.run({"serve": serve, "say": say}[sys.argv[1]], int(sys.argv[2]) if len(sys.argv) > 2 else 8000)
    except* KeyboardInterrupt:
        pass
    except* trio_http.UpgradeRefused as refused:
        sys.exit(f"refused: {refused.exceptions[0]}")
