"""The client's synchronous functions, each called at least once."""

from __future__ import annotations

import trio

from tests.conformance._cases import Visit, family
from tests.conformance._client_worlds import network, one_connection, streaming
from tests.conformance.cases_auth import CHALLENGE, INVALID, REQUEST, token
from tests.conformance.cases_bodies import Body
from trio_http import (
    Auth,
    BasicAuth,
    BearerAuth,
    CertificateMismatch,
    Client,
    ClientConnection,
    ConnectionLost,
    Cookie,
    CookieJar,
    DigestAuth,
    EnvironmentProxies,
    Headers,
    Multipart,
    NetrcAuth,
    Origin,
    Proxy,
    ProxyFailed,
    ProxyRefused,
    RaceFailed,
    RateLimit,
    RedirectRefused,
    RequestFacts,
    RequestFailed,
    Response,
    ResponseBody,
    Retry,
    RetryBudget,
    Sized,
    SOCKSRefused,
    StatusError,
    StreamedResponse,
    TooManyRedirects,
    Upgrade,
    UpgradeRefused,
    Validators,
    challenges,
    client_context,
)
from trio_http.client._received import ReceivedResponse

FACTS = RequestFacts(method="GET", url="http://a/")
ANSWER = Response(404)


@family("trio_http.Client", "__init__ statistics stream upgrade __enter__ __exit__", looks=True)
async def _(visit: Visit) -> None:
    visit("__init__", lambda: Client(follow_redirects=True))
    async with network() as net:
        client = net.client
        visit.look_at(client)
        visit("statistics", client.statistics)
        visit("stream", lambda: client.stream("GET", "/"))
        visit("upgrade", lambda: client.upgrade("/", "echo"))
        visit("__enter__", lambda: client.__enter__(), raises=RuntimeError)
        visit("__exit__", lambda: client.__exit__(), raises=AssertionError)


@family("trio_http.ClientConnection", "__init__ stream upgrade", looks=True)
async def _(visit: Visit) -> None:
    async with one_connection() as one:
        visit("__init__", lambda: ClientConnection(one.stream))
        visit.look_at(one.connection)
        visit("stream", lambda: one.connection.stream("GET", "/"))
        visit("upgrade", lambda: one.connection.upgrade("/", "echo"))


@family("trio_http.Upgrade", "__init__")
async def _(visit: Visit) -> None:
    async with network() as net:
        made = visit("__init__", lambda: net.client.upgrade("/", "echo"))
        assert isinstance(made, Upgrade)


@family("trio_http.ResponseBody", "__init__ facts", looks=True)
async def _(visit: Visit) -> None:
    async with streaming()() as under_way:
        body = under_way.response.body
        visit("__init__", lambda: ResponseBody(body._link, body._owner))
        visit("facts", body.facts)
        visit.look_at(body)


@family("trio_http.StreamedResponse", "__init__ __aiter__ lines raise_for_status", looks=True)
async def _(visit: Visit) -> None:
    async with network() as net:
        # As entering a block does it, up to where the response is made.
        block = net.client.stream("GET", "/fresh")
        answer = await net.client._flow.answer(block._plan)
        body = ResponseBody(answer.link, answer.owner)
        response = visit("__init__", lambda: StreamedResponse(answer, body))
        visit("__aiter__", lambda: aiter(response), raises=TypeError)
        visit("lines", response.lines)
        visit("raise_for_status", response.raise_for_status)
        visit.look_at(response)
        await body.aclose()


@family("trio_http.ReceivedResponse", "__init__ raise_for_status", looks=True)
async def _(visit: Visit) -> None:
    async with streaming("/fresh")() as under_way:
        link = under_way.response.body._link
        received = visit("__init__", lambda: ReceivedResponse(link, b"fresh", 0, 0))
    async with network() as net:
        received = await net.client.get("/fresh")
    visit("raise_for_status", received.raise_for_status)
    visit.look_at(received)


# ------------------------------------------------------------------------------------------------ credentials


@family("trio_http.Auth", "received", looks=True)
async def _(visit: Visit) -> None:
    visit("received", lambda: Auth().received(REQUEST, 200, Headers()))
    visit.look_at(Auth())


@family("trio_http.BasicAuth", "__init__")
async def _(visit: Visit) -> None:
    visit("__init__", lambda: BasicAuth("user", "secret"))


@family("trio_http.BearerAuth", "__init__ received")
async def _(visit: Visit) -> None:
    auth = visit("__init__", lambda: BearerAuth(token))
    visit("received", lambda: auth.received(REQUEST, 401, INVALID.headers))


@family("trio_http.DigestAuth", "__init__ received")
async def _(visit: Visit) -> None:
    auth = visit("__init__", lambda: DigestAuth("user", "secret"))
    visit("received", lambda: auth.received(REQUEST, 401, CHALLENGE))


@family("trio_http.NetrcAuth", "__init__")
async def _(visit: Visit) -> None:
    visit("__init__", lambda: NetrcAuth("netrc"))


# --------------------------------------------------------------------------------- cookies, forms, validators


@family("trio_http.Cookie", "is_expired")
async def _(visit: Visit) -> None:
    jar = CookieJar.from_mapping({"a": "b"}, "http://a/")
    (cookie,) = jar
    assert isinstance(cookie, Cookie)
    visit("is_expired", lambda: cookie.is_expired(0))


@family(
    "trio_http.CookieJar",
    "__init__ from_mapping receive field_for set get delete clear to_json from_json",
    looks=True,
)
async def _(visit: Visit) -> None:
    visit("from_mapping", lambda: CookieJar.from_mapping({"a": "b"}, "http://a/"))
    jar = visit("__init__", CookieJar)
    visit("receive", lambda: jar.receive("http://a/", ["a=b"]))
    visit("set", lambda: jar.set("c", "d", domain="a"))
    assert visit("field_for", lambda: jar.field_for("http://a/")) == "a=b; c=d"
    visit("get", lambda: jar.get("a"))
    visit.look_at(jar)
    text = visit("to_json", lambda: jar.to_json(session=True))
    visit("from_json", lambda: CookieJar.from_json(text))
    visit("delete", lambda: jar.delete("a"))
    visit("clear", jar.clear)


@family("trio_http.Sized", "__init__")
async def _(visit: Visit) -> None:
    visit("__init__", lambda: Sized(Body([b"abc"]), 3))


@family("trio_http.Multipart", "__init__", looks=True)
async def _(visit: Visit) -> None:
    visit.look_at(visit("__init__", lambda: Multipart(data={"a": "b"})))


@family("trio_http.Validators", "of if_changed if_unchanged if_range contradict", looks=True)
async def _(visit: Visit) -> None:
    validators = visit("of", lambda: Validators.of(Headers({"ETag": '"a"'})))
    visit.look_at(validators)
    for name in ("if_changed", "if_unchanged", "if_range"):
        visit(name, getattr(validators, name))
    visit("contradict", lambda: validators.contradict(validators))


# ----------------------------------------------------------------------------------- limits, retries, proxies


@family("trio_http.RateLimit", "__init__ statistics", looks=True)
async def _(visit: Visit) -> None:
    limit = visit("__init__", lambda: RateLimit(1))
    visit("statistics", limit.statistics)
    visit.look_at(limit)


@family("trio_http.RetryBudget", "__init__ deposit withdraw give_back", looks=True)
async def _(visit: Visit) -> None:
    budget = visit("__init__", RetryBudget)
    for name in ("deposit", "withdraw", "give_back"):
        visit(name, getattr(budget, name))
    visit.look_at(budget)


@family(
    "trio_http.Retry",
    "count_request delay_after_error delay_after_response delay_before_redirect claim",
)
async def _(visit: Visit) -> None:
    retry = Retry()
    visit("count_request", retry.count_request)
    error = ConnectionLost("gone", FACTS)
    visit(
        "delay_after_error",
        lambda: retry.delay_after_error(error, method="GET", repeatable=True, attempt=1),
    )
    visit(
        "delay_after_response",
        lambda: retry.delay_after_response(503, Headers(), method="GET", repeatable=True, attempt=1),
    )
    visit("delay_before_redirect", lambda: retry.delay_before_redirect(Headers()))
    visit("claim", lambda: retry.claim(1))


@family("trio_http.Origin", looks=True)
async def _(visit: Visit) -> None:
    visit.look_at(Origin("http", "a", 80))


@family("trio_http.Proxy", "from_url fields", looks=True)
async def _(visit: Visit) -> None:
    proxy = visit("from_url", lambda: Proxy.from_url("http://user:secret@proxy:8080"))
    visit("fields", proxy.fields)
    visit.look_at(proxy)


@family("trio_http.EnvironmentProxies", "__init__", looks=True)
async def _(visit: Visit) -> None:
    visit.look_at(visit("__init__", EnvironmentProxies))


@family(
    "trio_http",
    "challenges client_context by_server_name server_context inherited_listener systemd_listeners",
)
async def _(visit: Visit) -> None:
    from tests.conformance import visits_server

    visit("challenges", lambda: challenges(["Basic realm=r"]))
    visit("client_context", client_context)
    visits_server.visit_functions(visit)
    await trio.lowlevel.checkpoint()


# ----------------------------------------------------------------------------------------------------- errors


@family("trio_http.RequestFailed", "__init__", looks=True)
async def _(visit: Visit) -> None:
    visit.look_at(visit("__init__", lambda: RequestFailed("lost", FACTS)))


@family("trio_http.TooManyRedirects", "__init__")
async def _(visit: Visit) -> None:
    visit("__init__", lambda: TooManyRedirects("many", FACTS, ANSWER))


@family("trio_http.RedirectRefused", "__init__")
async def _(visit: Visit) -> None:
    visit("__init__", lambda: RedirectRefused("far", FACTS, ANSWER))


@family("trio_http.UpgradeRefused", "__init__", looks=True)
async def _(visit: Visit) -> None:
    visit.look_at(visit("__init__", lambda: UpgradeRefused(ANSWER, "http://a/")))


@family("trio_http.StatusError", "__init__", looks=True)
async def _(visit: Visit) -> None:
    visit.look_at(visit("__init__", lambda: StatusError(ANSWER, "http://a/")))


@family("trio_http.RaceFailed", "__init__", looks=True)
async def _(visit: Visit) -> None:
    visit.look_at(visit("__init__", lambda: RaceFailed([ValueError("no")])))


@family("trio_http.CertificateMismatch", "__init__")
async def _(visit: Visit) -> None:
    visit("__init__", lambda: CertificateMismatch("a", ["sha256/a"], []))


@family("trio_http.ProxyFailed", "__init__", looks=True)
async def _(visit: Visit) -> None:
    visit.look_at(visit("__init__", lambda: ProxyFailed("no", "http://proxy:1", "a:80")))


@family("trio_http.ProxyRefused", "__init__")
async def _(visit: Visit) -> None:
    visit("__init__", lambda: ProxyRefused("http://proxy:1", "a:80", 403, "Forbidden", Headers(), b"", False))


@family("trio_http.SOCKSRefused", "__init__")
async def _(visit: Visit) -> None:
    visit("__init__", lambda: SOCKSRefused("no", "socks5://proxy:1", "a:80", 2))
