"""A server with something to see: a page, a streamed response, an echo. Run it and open what it prints.

    python examples/demo_server.py [port]

It serves this machine's own browser: no TLS, no log file, and no shutdown beyond Ctrl-C.
"""

import html
import sys

import trio

import trio_http

PAGE = """<!doctype html>
<meta charset="utf-8"><title>trio_http</title>
<h1>It works</h1>
<p>This page came by HTTP/1.1 over Trio. You asked with:</p>
<pre>{user_agent}</pre>
<p>A response in pieces, one a second: <a href="/clock">/clock</a></p>
<form method="post" action="/echo"><input name="word" value="hello"><button>echo</button></form>
"""


async def app(request: trio_http.Request) -> trio_http.Response | None:
    match request.method, request.path:
        case "GET" | "HEAD", "/":
            user_agent = html.escape(request.headers.get("user-agent", "nothing"))
            return trio_http.Response(200, html=PAGE.format(user_agent=user_agent))
        case "GET", "/clock":
            async with request.stream_response(200, headers={"Content-Type": "text/plain"}) as body:
                for second in range(10):
                    await body.send_all(f"{second} seconds\n".encode())
                    await trio.sleep(1)
            return None
        case "POST", "/echo":
            kind = request.headers.get("content-type", "application/octet-stream")
            piece = await request.body.receive_some()  # first, for a client may wait to be asked: Expect
            async with request.stream_response(200, headers={"Content-Type": kind}) as body:
                while piece:
                    await body.send_all(piece)
                    piece = await request.body.receive_some()
            return None
    raise trio_http.HTTPException(404)


async def main(port: int = 8000) -> None:
    async with trio.open_nursery() as nursery:
        server = await nursery.start(trio_http.serve_tcp, app, port)
        print(f"Open {server.url}/ in a browser, or try:\n  curl -i {server.url}/")
        print(f"  curl -N {server.url}/clock")
        print(f"  curl -T README.md -X POST {server.url}/echo")
        print("Ctrl-C ends it.", flush=True)


if __name__ == "__main__":
    try:
        trio.run(main, int(sys.argv[1]) if len(sys.argv) > 1 else 8000)
    except* KeyboardInterrupt:
        pass
