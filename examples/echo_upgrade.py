"""Another protocol on an HTTP connection: here, one that says everything again. Server and client.

    python examples/echo_upgrade.py serve [port]
    python examples/echo_upgrade.py say [port]       # then type; Ctrl-D ends it

The client speaks through `trio_http.wire`, to show what goes over the connection.
"""

import sys

import trio

import trio_http
from trio_http import wire


async def echo(request: trio_http.Request) -> trio_http.Response | None:
    if "echo" not in request.upgrade_protocols:
        return trio_http.Response(426, text="I only speak echo.\n", headers={"Upgrade": "echo"})
    async with request.upgrade("echo") as stream:  # a trio stream, with what the client has sent ahead
        async for chunk in stream:
            await stream.send_all(chunk)
    return None


async def serve(port: int) -> None:
    async with trio.open_nursery() as nursery:
        server = await nursery.start(trio_http.serve_tcp, echo, port)
        print(f"Echoing on {server.url}", flush=True)


async def say(port: int) -> None:
    fields = [("Host", f"127.0.0.1:{port}"), ("Connection", "upgrade"), ("Upgrade", "echo")]
    async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
        connection = wire.Connection(wire.CLIENT)
        head = connection.send(wire.Request(method="GET", target="/", headers=fields))
        await stream.send_all((head or b"") + (connection.send(wire.EndOfMessage()) or b""))
        while (event := connection.next_event()) is wire.NEED_DATA:
            connection.receive_data(await stream.receive_some())
        if not isinstance(event, wire.InformationalResponse) or event.status_code != 101:
            sys.exit(f"refused: {event}")
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
