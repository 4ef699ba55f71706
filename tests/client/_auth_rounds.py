"""An `Auth` and a server taking turns as a client lets them, without a client in between."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs

from trio_http import Headers, Response
from trio_http.client._auth import Auth, AuthRequest
from trio_http.client._origin import Origin

ORIGIN = Origin("http", "example.org", 80)

Server = Callable[[AuthRequest], Response]


def request_for(target: str = "/path", **changes: Any) -> AuthRequest:
    facts: dict[str, Any] = {
        "method": "GET",
        "url": f"http://example.org{target}",
        "target": target,
        "headers": Headers({"Host": "example.org"}),
        "content": b"",
        "origin": ORIGIN,
    }
    return AuthRequest(**(facts | changes))


def with_fields(request: AuthRequest, fields: Any) -> AuthRequest:
    added = Headers(fields)
    kept = [pair for pair in request.headers.items() if pair[0] not in added]
    return attrs.evolve(request, headers=Headers([*kept, *added.items()]))


async def exchange(
    auth: Auth, server: Server, request: AuthRequest | None = None
) -> tuple[Response, list[str | None]]:
    """The response that the caller gets, and the Authorization field of each attempt."""
    plain = request_for() if request is None else request
    shown: list[str | None] = []
    fields: Any = await auth.authorize(plain)
    for number in range(1, auth.rounds + 2):
        sent = with_fields(plain, fields)
        shown.append(sent.headers.get("authorization"))
        response = server(sent)
        auth.received(sent, response.status, response.headers)
        if response.status != 401 or plain.content is None or number > auth.rounds:
            break
        fields = await auth.answer(sent, response, number)
        if fields is None:
            break
    return response, shown


def refusal(*challenges: str) -> Response:
    return Response(401, headers=[("WWW-Authenticate", challenge) for challenge in challenges])
