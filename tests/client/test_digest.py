"""Digest against the vectors of its RFCs, and against a server that does its own sums (C45)."""

from __future__ import annotations

import hashlib
import re
from typing import Any

import attrs
import pytest
import trio

from tests.client._auth_rounds import ORIGIN, exchange, refusal, request_for
from trio_http import Headers, InvalidRequest, Response
from trio_http.client._auth import AuthRequest
from trio_http.client._challenge import challenges
from trio_http.client._digest import ALGORITHMS, DigestAuth, DigestOffer, _Session, offer_of
from trio_http.client._origin import Origin

# ---------------------------------------------------------------------------------------------------- vectors

RFC7616 = (
    'realm="http-auth@example.org", qop="auth, auth-int",'
    ' nonce="7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v"'
)
RFC7616_CNONCE = "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ"
UNICODE = (
    'realm="api@example.org", qop="auth", algorithm=SHA-512-256,'
    ' nonce="5TsQWLVdgBdmrQ0XsxbDODV+57QdFR34I9HAbC/RVvkK", charset=UTF-8, userhash=true'
)
RFC2617 = 'realm="testrealm@host.com", nonce="dcd98b7102dd2f0e8b11d0f600bfb0c093"'


def offered(challenge: str) -> DigestOffer:
    offer = offer_of(challenges([f"Digest {challenge}"])[0], ORIGIN, ALGORITHMS)
    assert offer is not None
    return offer


def proven(challenge: str, username: str, password: str, target: str, cnonce: str) -> dict[str, str]:
    """The parameters of the first answer to a challenge."""
    session = _Session.begun(offered(challenge), username.encode(), password.encode(), cnonce)
    (credentials,) = challenges([session.proof(request_for(target), 1, cnonce)])
    return credentials.parameters


@pytest.mark.parametrize(
    ("challenge", "username", "password", "target", "cnonce", "response"),
    [
        pytest.param(
            f"{RFC7616}, algorithm=MD5", "Mufasa", "Circle of Life", "/dir/index.html", RFC7616_CNONCE,
            "8ca523f5e9506fed4657c9700eebdbec", id="RFC 7616 §3.9.1, MD5",
        ),
        pytest.param(
            f"{RFC7616}, algorithm=SHA-256", "Mufasa", "Circle of Life", "/dir/index.html", RFC7616_CNONCE,
            "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1", id="RFC 7616 §3.9.1, SHA-256",
        ),
        pytest.param(
            UNICODE, "J\xe4s\xf8n Doe", "Secret, or not?", "/doe.json",
            "NTg6RKcb9boFIAS3KrFK9BGeh+iDa/sm6jUMp2wds69v",
            "3798d4131c277846293534c3edc11bd8a5e4cdcbff78b05db9d95eeb1cec68a5",
            id="RFC 7616 §3.9.2 as erratum 4897 has it",
        ),
        pytest.param(
            f'{RFC2617}, qop="auth,auth-int"', "Mufasa", "Circle Of Life", "/dir/index.html", "0a4f113b",
            "6629fae49393a05397450978507c4ef1", id="RFC 2617 §3.5",
        ),
        pytest.param(
            RFC2617, "Mufasa", "CircleOfLife", "/dir/index.html", "",
            "1949323746fe6a43ef61f9606e7febea", id="RFC 2069 §2.4 as erratum 749 has it",
        ),
    ],
)  # fmt: skip
def test_the_response_is_that_of_the_rfc(
    challenge: str, username: str, password: str, target: str, cnonce: str, response: str
) -> None:
    """C45: digest."""
    assert proven(challenge, username, password, target, cnonce)["response"] == response


def test_the_name_can_be_hashed() -> None:
    """RFC 7616 §3.4.4, with the value of erratum 4897."""
    given = proven(UNICODE, "J\xe4s\xf8n Doe", "Secret, or not?", "/doe.json", "c")
    assert given["userhash"] == "true"
    assert given["username"] == "793263caabb707a56211940d90411ea4a575adeccb7e360aeb624ed06ece9b0b"


# -------------------------------------------------------------------------------------------- a server's sums


def h(name: str, *parts: str | bytes) -> str:
    raw = [part if isinstance(part, bytes) else part.encode("latin-1") for part in parts]
    return hashlib.new(name, b":".join(raw)).hexdigest()


class DigestServer:
    """Knows one user, and does the sums of RFC 7616 §3.4.1 by itself.

    A nonce is good for `uses` requests; no count may come twice. `refused` has what was wrong with requests.
    """

    def __init__(self, algorithm: str = "SHA-256", qop: str | None = "auth", **options: Any) -> None:
        self.algorithm = algorithm
        self.qop = qop
        self.username: bytes = options.pop("username", b"user")
        self.password: bytes = options.pop("password", b"pass:word")
        self.realm: str = options.pop("realm", 'a "realm" \\ \xe9')
        self.uses: int = options.pop("uses", 1_000_000)
        self.says_stale: bool = options.pop("says_stale", True)
        self.next_nonce: bool = options.pop("next_nonce", False)
        self.extra: str = options.pop("extra", ', opaque="o p\\\\q"')
        assert not options
        self.nonces = 0
        self.left: dict[str, int] = {}
        self.secrets: dict[str, str] = {}
        self.seen: set[tuple[str, str]] = set()
        self.counts: list[str] = []
        self.refused: list[str] = []

    def new_nonce(self) -> str:
        self.nonces += 1
        nonce = f'no"nce {self.nonces}'
        self.left[nonce] = self.uses
        return nonce

    def forget(self) -> None:
        self.left.clear()

    def challenge(self, stale: bool = False) -> str:
        def text(value: str) -> str:
            return re.sub(r'(["\\])', r"\\\1", value)

        qop = "" if self.qop is None else f', qop="{self.qop}"'
        return (
            f'Digest realm="{text(self.realm)}", nonce="{text(self.new_nonce())}"{qop},'
            f" algorithm={self.algorithm}{', stale=true' if stale else ''}{self.extra}"
        )

    def refuse(self, why: str, *, stale: bool = False) -> Response:
        self.refused.append(why)
        return refusal(self.challenge(stale and self.says_stale))

    def __call__(self, request: AuthRequest) -> Response:
        if "authorization" not in request.headers:
            return self.refuse("nothing")
        (credentials,) = challenges(request.headers.get_all("authorization"))
        given = credentials.parameters
        assert (given["uri"], given["realm"], given.get("algorithm")) == (
            request.target, self.realm, self.algorithm,
        )  # fmt: skip
        assert self.extra == "" or given["opaque"] == "o p\\q"
        nonce = given["nonce"]
        if not self.left.get(nonce):
            return self.refuse("stale", stale=True)
        self.left[nonce] -= 1
        name = ALGORITHMS[self.algorithm.removesuffix("-sess")]
        secret = h(name, self.username, self.realm, self.password)
        if self.algorithm.endswith("-sess"):
            secret = self.secrets.setdefault(nonce, h(name, secret, nonce, given["cnonce"]))
        second = f"{request.method}:{request.target}"
        if given.get("qop") == "auth-int":
            second += ":" + hashlib.new(name, request.content or b"").hexdigest()
        if self.qop is None:
            assert not {"qop", "nc", "cnonce"} & given.keys()
            expected = h(name, secret, nonce, h(name, second))
        else:
            assert given["qop"] in self.qop.split(",")
            if (nonce, given["nc"]) in self.seen:
                return self.refuse("a count that came twice")
            self.seen.add((nonce, given["nc"]))
            self.counts.append(given["nc"])
            expected = h(name, secret, nonce, given["nc"], given["cnonce"], given["qop"], h(name, second))
        if given["response"] != expected:
            return self.refuse("password")
        if self.next_nonce:
            nonce = self.new_nonce().replace('"', '\\"')
            return Response(200, headers={"Authentication-Info": f'qop=auth, nextnonce="{nonce}"'})
        return Response(200)


def digest(password: str = "pass:word", **options: Any) -> DigestAuth:
    return DigestAuth("user", password, **options)


async def statuses(auth: DigestAuth, server: DigestServer, *requests: AuthRequest) -> list[int]:
    return [(await exchange(auth, server, request))[0].status for request in requests]


@pytest.mark.parametrize("qop", ["auth", "auth-int", "auth-int,auth", None])
@pytest.mark.parametrize("name", ALGORITHMS)
async def test_every_algorithm_is_accepted_by_a_server_that_does_its_own_sums(
    name: str, qop: str | None
) -> None:
    server = DigestServer(name, qop)
    requests = [request_for('/a?"b', method="POST", content=b"content"), request_for("/c"), request_for("/d")]
    assert await statuses(digest(), server, *requests) == [200, 200, 200]
    assert server.refused == ["nothing"], "the others are authorised beforehand"
    assert server.counts == ([] if qop is None else ["00000001", "00000002", "00000003"])


@pytest.mark.parametrize("name", ALGORITHMS)
async def test_a_session_key_is_made_once_for_each_nonce(name: str) -> None:
    server = DigestServer(f"{name}-sess", uses=2)
    assert await statuses(digest(), server, *[request_for()] * 5) == [200] * 5
    assert server.refused == ["nothing", "stale", "stale"]


async def test_the_strongest_algorithm_is_taken() -> None:
    given = 'realm="r", qop="auth", nonce="n"'
    all_of_them = [
        f"Digest {given}",
        *(f"Digest {given}, algorithm={name}" for name in ("SHA-256", "MD5-sess")),
    ]
    for challenges_, expected in [
        (all_of_them, "algorithm=SHA-256"),
        ([*all_of_them, f"Digest {given}, algorithm=sha-512-256-SESS"], "algorithm=sha-512-256-SESS"),
        ([", ".join(all_of_them[::-1])], "algorithm=SHA-256"),
        ([f"Digest {given}, algorithm=SHA-3", "Basic realm=x"], None),
    ]:
        _, attempts = await exchange(digest(), lambda request, c=challenges_: refusal(*c))
        assert len(attempts) == (1 if expected is None else 2)
        assert expected is None or expected in (attempts[1] or "")


async def test_an_algorithm_that_is_not_wanted_is_not_used() -> None:
    server = DigestServer("MD5")
    response, attempts = await exchange(digest(algorithms=["SHA-256"]), server)
    assert (response.status, attempts) == (401, [None])
    with pytest.raises(InvalidRequest, match=r"algorithms has \['MD4'\], expected some of \['SHA-512-256'"):
        digest(algorithms=["MD5", "MD4"])


@pytest.mark.parametrize(
    "challenge",
    [
        'Digest nonce="n", qop="auth"',
        'Digest realm="r", qop="auth"',
        'Digest realm="r", nonce="n", qop="other"',
        'Digest realm="r", nonce="n", qop=""',
        'Digest realm="r", nonce="n", algorithm=MD5-sess',
        'Digest realm="r", nonce="n", algorithm=SHA',
        "Digest aGk=",
        'Basic realm="r"',
        "",
    ],
)
async def test_a_challenge_that_cannot_be_answered_is_handed_to_the_caller(challenge: str) -> None:
    response, attempts = await exchange(digest(), lambda request: refusal(challenge))
    assert (response.status, attempts) == (401, [None])


# ----------------------------------------------------------------------------------------------------- nonces


async def test_a_stale_nonce_is_replaced_without_a_word() -> None:
    server = DigestServer(uses=1)
    auth = digest()
    assert await statuses(auth, server, *[request_for()] * 3) == [200] * 3
    assert server.refused == ["nothing", "stale", "stale"]


async def test_a_nonce_that_was_stale_before_its_first_use_is_replaced_too() -> None:
    server = DigestServer()
    auth = digest()

    def hasty(request: AuthRequest) -> Response:
        response = server(request)
        if server.nonces < 2:
            server.forget()
        return response

    response, attempts = await exchange(auth, hasty)
    assert (response.status, len(attempts)) == (200, 3)
    assert server.refused == ["nothing", "stale"]


async def test_a_server_that_forgot_its_nonces_without_saying_so_is_answered_once_more() -> None:
    server = DigestServer(says_stale=False)
    auth = digest()
    await exchange(auth, server)
    server.forget()
    assert await statuses(auth, server, request_for()) == [200]
    assert server.refused == ["nothing", "stale"]


async def test_a_wrong_password_is_shown_once_a_request() -> None:
    server = DigestServer()
    auth = digest("wrong")
    assert await statuses(auth, server, request_for(), request_for()) == [401, 401]
    assert server.refused == ["nothing", "password"] * 2


async def test_a_wrong_password_ends_also_where_the_nonce_is_always_the_same() -> None:
    server = DigestServer(extra="")
    server.new_nonce = lambda: "constant"  # type: ignore[method-assign]
    server.left["constant"] = 10
    auth = digest("wrong")
    assert await statuses(auth, server, request_for(), request_for()) == [401, 401]
    assert server.refused == ["nothing", "password"] * 2
    assert server.counts == ["00000001", "00000002"], "a count came twice under one nonce"


async def test_a_password_that_became_wrong_ends_the_request() -> None:
    server = DigestServer()
    auth = digest()
    await exchange(auth, server)
    server.password = b"changed"
    response, attempts = await exchange(auth, server)
    assert (response.status, len(attempts)) == (401, 2)
    response, attempts = await exchange(auth, server)
    assert attempts[0] is None


async def test_the_next_nonce_of_an_answer_is_used() -> None:
    """RFC 7616 §3.5."""
    for algorithm in ("SHA-256", "MD5"):
        server = DigestServer(algorithm, uses=1, next_nonce=True)
        assert await statuses(digest(), server, *[request_for()] * 4) == [200] * 4
        assert server.refused == ["nothing"]
        assert server.counts == ["00000001"] * 4


async def test_no_count_comes_twice_among_many_tasks() -> None:
    """C45: with one nonce for all, with one for a few requests, and with one that changes all the time."""
    for options in ({}, {"uses": 7}, {"next_nonce": True}, {"algorithm": "MD5-sess"}):
        server = DigestServer(**options)  # type: ignore[arg-type]
        auth = digest()
        await exchange(auth, server)
        fields: list[str] = []

        async def one(auth: DigestAuth = auth, fields: list[str] = fields) -> None:
            for _ in range(10):
                await trio.lowlevel.checkpoint()
                fields.append(Headers(await auth.authorize(request_for()))["authorization"])
                await trio.lowlevel.checkpoint()

        async def other(auth: DigestAuth = auth, server: DigestServer = server) -> None:
            for _ in range(10):
                await trio.lowlevel.checkpoint()
                await exchange(auth, server)

        async with trio.open_nursery() as nursery:
            for _ in range(10):
                nursery.start_soon(one)
                nursery.start_soon(other)
        assert "a count that came twice" not in server.refused
        assert "password" not in server.refused
        given = [challenges([field])[0].parameters for field in fields]
        pairs = {(one["nonce"], one["nc"]) for one in given}
        assert len(pairs) == len(fields) == 100
        assert not pairs & server.seen


async def test_what_is_remembered_is_bounded() -> None:
    auth = digest()
    for number in range(1000):
        origin = Origin("http", f"host{number}.example", 80)
        await exchange(auth, DigestServer(realm=f"r{number % 7}"), request_for(origin=origin))
    assert len(auth._sessions) == 64
    assert len(auth._counts) == 256


# ---------------------------------------------------------------------------------------- what it is good for


async def test_what_one_origin_said_is_not_told_to_another() -> None:
    server = DigestServer()
    auth = digest()
    await exchange(auth, server)
    for origin in (ORIGIN._replace(scheme="https"), ORIGIN._replace(port=81), ORIGIN._replace(host="b.org")):
        assert list(Headers(await auth.authorize(request_for(origin=origin)))) == []


@pytest.mark.parametrize(
    ("domain", "target", "beforehand"),
    [
        ("", "/any", True),
        ("/private /more", "/private/a", True),
        ("/private /more", "/more", True),
        ("/private /more", "/public", False),
        ("http://EXAMPLE.org:80/private", "/private/a", True),
        ("http://example.org", "/any", True),
        ("https://example.org/private http://b.org/ mailto:x relative", "/private", False),
        ("/", "*", False),
    ],
)
async def test_a_domain_says_which_requests_are_authorised_beforehand(
    domain: str, target: str, beforehand: bool
) -> None:
    """RFC 7616 §3.3."""
    server = DigestServer(extra=f', opaque="o p\\\\q", domain="{domain}"')
    auth = digest()
    assert await statuses(auth, server, request_for("/private")) == [200]
    fields = Headers(await auth.authorize(request_for(target)))
    assert ("authorization" in fields) is beforehand


async def test_a_streamed_content_is_authorised_beforehand_or_not_at_all() -> None:
    streamed = request_for(method="PUT", content=None)
    server = DigestServer()
    assert await statuses(digest(), server, streamed, streamed) == [401, 200], (
        "the first taught the challenge"
    )
    server = DigestServer(qop="auth-int")
    auth = digest()
    assert await statuses(auth, server, streamed, streamed, request_for()) == [401, 401, 200]
    assert server.refused == ["nothing"] * 2


async def test_two_realms_of_one_origin_are_both_let_in() -> None:
    one, two = DigestServer(realm="one", says_stale=False), DigestServer(realm="two", says_stale=False)

    def server(request: AuthRequest) -> Response:
        which = one if request.target.startswith("/one") else two
        if f'realm="{which.realm}"' not in request.headers.get("authorization", ""):
            return refusal(which.challenge())
        return which(request)

    auth = digest()
    for target in ("/one", "/two", "/one", "/two", "/two"):
        response, _ = await exchange(auth, server, request_for(target))
        assert response.status == 200


# ----------------------------------------------------------------------------------------------- user's names


@pytest.mark.parametrize(
    ("extra", "expected"),
    [
        (", charset=UTF-8", "username*=UTF-8''J%C3%A4s%C3%B8n%20%22D%22"),
        ("", 'username="J\xc3\xa4s\xc3\xb8n \\"D\\""'),
        (", userhash=false, charset=utf-8", "username*=UTF-8''J%C3%A4s%C3%B8n%20%22D%22"),
    ],
)
async def test_a_name_beyond_ascii_goes_out_in_utf_8(extra: str, expected: str) -> None:
    server = DigestServer(username='J\xe4s\xf8n "D"'.encode(), extra=f', opaque="o p\\\\q"{extra}')
    auth = DigestAuth('Ja\u0308s\xf8n "D"', "pass:word")  # not yet normalised
    response, attempts = await exchange(auth, server)
    assert response.status == 200
    assert (attempts[1] or "").startswith(f"Digest {expected}, realm=")


async def test_quotes_stand_where_the_rfc_has_them_and_only_there() -> None:
    """RFC 7616 §3.4: some servers take no other form."""
    server = DigestServer("SHA-256", realm='a "b"')
    _, attempts = await exchange(digest(), server)
    field = re.sub(r'(cnonce|response)="[0-9a-f]+"', r'\1="…"', attempts[1] or "")
    assert field == (
        'Digest username="user", realm="a \\"b\\"", uri="/path", nonce="no\\"nce 1", nc=00000001, cnonce="…",'
        ' qop=auth, response="…", algorithm=SHA-256, opaque="o p\\\\q"'
    )


async def test_the_clients_nonce_is_new_for_each_request() -> None:
    server = DigestServer()
    auth = digest()
    found = [(await exchange(auth, server))[1][-1] or "" for _ in range(3)]
    cnonces = {challenges([field])[0].parameters["cnonce"] for field in found}
    assert len(cnonces) == 3
    assert all(re.fullmatch("[0-9a-f]{32}", cnonce) for cnonce in cnonces)


def test_an_offer_is_the_same_whether_or_not_it_calls_the_last_nonce_stale() -> None:
    offer = offered(f"{RFC2617}, stale=TRUE")
    assert offer.stale
    assert offer == attrs.evolve(offer, stale=False)
