"""A clock in the browser by server-sent events; SIGTERM or Ctrl-C ends it, with a word to those who watch.

python examples/sse.py [port]
"""

import signal
import sys
import time

import trio

import trio_http

PAGE = """<!doctype html>
<meta charset="utf-8"><title>clock</title>
<h1 id="time">...</h1>
<script>
const source = new EventSource("/events"), show = text => document.getElementById("time").textContent = text;
source.onmessage = event => show(event.data);
source.addEventListener("bye", () => { source.close(); show("The clock has stopped."); });
</script>
"""


async def clock(request: trio_http.Request) -> None:
    print("one more watches", flush=True)
    try:
        async with request.stream_response(200, headers={"Content-Type": "text/event-stream"}) as body:
            while not request.draining:
                await body.send_all(f"data: {time.strftime('%H:%M:%S')}\n\n".encode())
                with request.cancel_on_drain():  # round the wait, not the send: that must not be cut
                    await trio.sleep(1)
            await body.send_all(b"event: bye\ndata:\n\n")
    finally:
        reason = request.cancel_reason
        print("one less watches:", reason.value if reason else "the clock has stopped", flush=True)


async def app(request: trio_http.Request) -> trio_http.Response | None:
    match request.method, request.path:
        case "GET", "/events":
            await clock(request)
            return None
        case "GET", "/":
            return trio_http.Response(200, html=PAGE)
    raise trio_http.HTTPException(404)


async def main(port: int = 8000) -> None:
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with trio.open_nursery() as nursery:
            server = await nursery.start(trio_http.serve_tcp, app, port)
            print(f"Open {server.url}/ in a browser.", flush=True)
            await anext(signals)
            await server.shutdown(grace=5)


if __name__ == "__main__":
    trio.run(main, int(sys.argv[1]) if len(sys.argv) > 1 else 8000)
