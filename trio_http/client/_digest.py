"""Digest: the password proven by a hash, so that it does not travel (RFC 7616).

A server's challenge has a nonce. Who answers it hashes name, realm and password (the secret), and that with
the nonce, a count of the requests under this nonce, a nonce of his own (cnonce), the method and the target.
With one nonce many requests can be made, as long as no count comes twice; so after the first 401 the others
go out authorised at once, until the server says that the nonce is stale.

What is kept, all of it changed without a checkpoint in between, so that tasks cannot come between:

- a `_Session` for each origin and realm: the newest challenge there, and the secret. It is what requests are
  authorised by beforehand. It goes when the server has refused the credentials in it, so that a wrong
  password is shown once a request and not twice.
- the counts, by origin and nonce. They stay when their session goes, since servers exist whose nonce is
  always the same, and others that hand out one nonce to several tasks.

The hard case is a 401 to a request that was authorised. ``stale=true`` says that only the nonce was wrong. A
server that has forgotten its nonces often does not say so; therefore a 401 with another nonce, to a request
that was authorised beforehand, is answered once more. To a fresh nonce a 401 means what it says.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterable
from typing import Final
from urllib.parse import quote

import attrs

from trio_http._errors import InvalidRequest
from trio_http.messages import FieldsInput, Headers, Response

from ._auth import Auth, AuthRequest, credential
from ._challenge import Challenge, challenges, parameters_of, quoted
from ._origin import Origin
from ._url import parse_url

# The algorithms of RFC 7616 §6.1, the strongest first, with the names that `hashlib` knows them by. Each also
# has a variant "-sess" of the same strength.
ALGORITHMS: Final = {"SHA-512-256": "sha512_256", "SHA-256": "sha256", "MD5": "md5"}

# How many realms and nonces are remembered over all origins; the oldest go first. A program has the passwords
# of few. Arbitrary.
_MAX_SESSIONS: Final = 64
_MAX_COUNTS: Final = 256

_CNONCE_BYTES: Final = 16  # as many as an MD5 hash has: it must not be guessed (RFC 7616 §5.13)


@attrs.frozen
class DigestOffer:
    """A challenge that can be answered.

    Attributes:
      realm, nonce: as the server wants them back.
      algorithm: as the server wrote it; None if it did not, which means MD5.
      hash_name: what `hashlib` calls it.
      has_session_key: the secret is hashed with the first nonces once more ("-sess").
      qop: "auth", "auth-int" (the content is in the hash), or None: the server is older than both (RFC 2069).
      opaque: what the server wants back; None without.
      hashes_username, is_utf8: what the server says with userhash and charset.
      paths: the beginnings of the targets that it is good for (RFC 7616 §3.3, domain); None: all.
      stale: only the nonce was wrong.
    """

    realm: str
    nonce: str
    algorithm: str | None
    hash_name: str
    has_session_key: bool
    qop: str | None
    opaque: str | None
    hashes_username: bool
    is_utf8: bool
    paths: tuple[str, ...] | None
    stale: bool = attrs.field(default=False, eq=False)

    def covers(self, target: str) -> bool:
        """Tell whether a request for ``target`` may be authorised without being asked."""
        return self.paths is None or target.startswith(self.paths)


def offer_of(challenge: Challenge, origin: Origin, allowed: Iterable[str]) -> DigestOffer | None:
    """Return what a challenge offers; None if it is another scheme's or cannot be answered.

    Args:
      challenge: of a response from ``origin``.
      allowed: keys of `ALGORITHMS`.
    """
    given = challenge.parameters
    if challenge.scheme != "digest" or "realm" not in given or "nonce" not in given:
        return None
    name = given.get("algorithm", "MD5").upper()
    base = name.removesuffix("-SESS")
    if base not in allowed or not _is_available(ALGORITHMS[base]):
        return None
    qop = None
    if "qop" in given:
        offered = {option.strip(" \t").lower() for option in given["qop"].split(",")}
        qop = "auth" if "auth" in offered else "auth-int" if "auth-int" in offered else None
        if qop is None:
            return None
    elif base != name:
        return None  # a session key needs a cnonce, which there is no place for without qop
    return DigestOffer(
        realm=given["realm"],
        nonce=given["nonce"],
        algorithm=given.get("algorithm"),
        hash_name=ALGORITHMS[base],
        has_session_key=base != name,
        qop=qop,
        opaque=given.get("opaque"),
        hashes_username=given.get("userhash", "").lower() == "true",
        is_utf8=given.get("charset", "").lower() == "utf-8",
        paths=_paths_of(given.get("domain", ""), origin),
        stale=given.get("stale", "").lower() == "true",
    )


class DigestAuth(Auth):
    """User name and password, proven by RFC 7616 without being sent.

    Of several challenges the one with the strongest algorithm is answered. After the first answer, requests
    to the same origin (and within the challenge's domain) are authorised beforehand.

    A request with a streamed content can be authorised only if it can be beforehand: its content cannot be
    sent twice. If the server asks for nothing but ``auth-int``, such a request goes out as it is.

    Only the client is authenticated: the server's own proof (rspauth) is not looked at, since https gives it.

    Args:
      username, password: any characters besides controls. They are hashed in UTF-8, normalised by NFC; a name
        beyond ASCII goes out as ``username*`` to a server that says ``charset=UTF-8``, and else as UTF-8.
      algorithms: those that are acceptable, "-sess" variants included. Without "MD5", nobody on the way who
        changes the challenge can make the client use it.

    Raises:
      InvalidRequest: a control character, a lone surrogate, an unknown algorithm.
      TypeError: the name or the password is no str.

    Reference: RFC 7616, and RFC 2069 for servers that offer no qop.
    """

    # The second is for a nonce that was stale before its first use: another task's request was faster.
    rounds = 2

    def __init__(
        self, username: str, password: str, *, algorithms: Iterable[str] = tuple(ALGORITHMS)
    ) -> None:
        self._username = credential("username", username)
        self._password = credential("password", password)
        self._algorithms = frozenset(algorithms)
        if unknown := sorted(self._algorithms - ALGORITHMS.keys()):
            raise InvalidRequest(f"algorithms has {unknown}, expected some of {list(ALGORITHMS)}")
        # By origin and realm; the one that was learnt last is at the end.
        self._sessions: dict[tuple[Origin, str], _Session] = {}
        # Requests under a nonce, by origin and nonce; the one that was used last is at the end.
        self._counts: dict[tuple[Origin, str], int] = {}

    async def authorize(self, request: AuthRequest) -> FieldsInput:
        """Return the Authorization field if a challenge is known that fits, as `Auth.authorize`.

        Cancellation: there is nothing in it to be cancelled, and no checkpoint.
        """
        for (origin, _), session in reversed(self._sessions.items()):
            if origin == request.origin and session.offer.covers(request.target):
                return self._fields(session, request) or ()
        return ()

    def received(self, request: AuthRequest, status: int, headers: Headers) -> None:
        """Learn a challenge from a 401, or the next nonce from any other response (RFC 7616 §3.5)."""
        if status == 401:
            self._learn(request, headers)
        elif (info := headers.get("authentication-info")) and (sent := _sent_with(request)):
            nonce = parameters_of(info).get("nextnonce")
            session = self._sessions.get((request.origin, sent.get("realm", "")))
            # Not if another task has brought a newer nonce meanwhile.
            if nonce and session is not None and session.offer.nonce == sent.get("nonce"):
                session.offer = attrs.evolve(session.offer, nonce=nonce)

    async def answer(self, request: AuthRequest, response: Response, round: int) -> FieldsInput | None:
        """Return the field that answers the 401's challenge; None if the credentials were refused.

        Cancellation: there is nothing in it to be cancelled, and no checkpoint.
        """
        session = self._learn(request, response.headers)
        if session is None:
            return None
        offer, sent = session.offer, _sent_with(request)
        if sent is None or session.stale or sent.get("realm") != offer.realm:
            return self._fields(session, request)
        if round == 1 and sent.get("nonce") != offer.nonce:
            return self._fields(session, request)
        del self._sessions[request.origin, offer.realm]
        return None

    def _learn(self, request: AuthRequest, headers: Headers) -> _Session | None:
        """Keep the best challenge of a 401 as the newest of its realm, and return it; None without any."""
        best: DigestOffer | None = None
        for challenge in challenges(headers.get_all("www-authenticate")):
            offer = offer_of(challenge, request.origin, self._algorithms)
            if offer is not None and (best is None or _rank(offer) < _rank(best)):
                best = offer
        if best is None:
            return None
        key = request.origin, best.realm
        session = self._sessions.pop(key, None)
        if session is None or session.offer != best:
            session = _Session.begun(best, self._username, self._password)
        session.stale = best.stale
        self._sessions[key] = session
        if len(self._sessions) > _MAX_SESSIONS:
            del self._sessions[next(iter(self._sessions))]
        return session

    def _fields(self, session: _Session, request: AuthRequest) -> FieldsInput | None:
        """Return the field for one sending; None if it would need a content that is not here."""
        offer = session.offer
        if offer.qop == "auth-int" and request.content is None:
            return None
        # No checkpoint from here to the end: no two requests may have the same count.
        key = request.origin, offer.nonce
        count = self._counts.pop(key, 0) + 1
        self._counts[key] = count
        if len(self._counts) > _MAX_COUNTS:
            del self._counts[next(iter(self._counts))]
        return {"Authorization": session.proof(request, count, session.cnonce or _new_cnonce())}


@attrs.define
class _Session:
    """A challenge, and what is derived from it once.

    Attributes:
      offer: the challenge; its nonce is replaced by the server's next one.
      username: as bytes.
      secret: H(A1) of RFC 7616 §3.4.2.
      cnonce: of all requests, where the secret was made with it; None: each has its own.
      stale: what the challenge said when it came last.
    """

    offer: DigestOffer
    username: bytes = attrs.field(repr=False)
    secret: bytes = attrs.field(repr=False)
    cnonce: str | None
    stale: bool = False

    @classmethod
    def begun(
        cls, offer: DigestOffer, username: bytes, password: bytes, cnonce: str | None = None
    ) -> _Session:
        secret = _hash(offer, username, _raw(offer.realm), password)
        if not offer.has_session_key:
            return cls(offer, username, secret, None)
        cnonce = cnonce or _new_cnonce()
        return cls(offer, username, _hash(offer, secret, _raw(offer.nonce), _raw(cnonce)), cnonce)

    def proof(self, request: AuthRequest, count: int, cnonce: str) -> str:
        """Return the value of Authorization (RFC 7616 §3.4).

        Args:
          request: with its content if the challenge wants ``auth-int``.
          count: of this request under the nonce, from 1.
          cnonce: ASCII.
        """
        offer = self.offer
        what = [request.method.encode(), _raw(request.target)]
        if offer.qop == "auth-int":
            assert request.content is not None, "`auth-int` needs the content"
            what.append(hashlib.new(offer.hash_name, request.content).hexdigest().encode())
        hashed = _hash(offer, *what)
        if offer.qop is None:
            middle: list[str] = []
            response = _hash(offer, self.secret, _raw(offer.nonce), hashed)
        else:
            nc = f"{count:08x}"
            middle = [f"nc={nc}", f"cnonce={quoted(cnonce)}", f"qop={offer.qop}"]
            response = _hash(
                offer, self.secret, _raw(offer.nonce), nc.encode(), _raw(cnonce), offer.qop.encode(), hashed
            )
        parts = [
            self._username_parameter(),
            f"realm={quoted(offer.realm)}",
            f"uri={quoted(request.target)}",
            f"nonce={quoted(offer.nonce)}",
            *middle,
            f'response="{response.decode()}"',
        ]
        if offer.algorithm is not None:
            parts.append(f"algorithm={offer.algorithm}")
        if offer.opaque is not None:
            parts.append(f"opaque={quoted(offer.opaque)}")
        if offer.hashes_username:
            parts.append("userhash=true")
        return "Digest " + ", ".join(parts)

    def _username_parameter(self) -> str:
        if self.offer.hashes_username:
            return f'username="{_hash(self.offer, self.username, _raw(self.offer.realm)).decode()}"'
        if self.username.isascii() or not self.offer.is_utf8:
            # Servers from before RFC 7616 know no `username*`; what they compare is bytes.
            return f"username={quoted(self.username.decode('latin-1'))}"
        return f"username*=UTF-8''{quote(self.username, safe='')}"  # RFC 8187 §3.2


def _paths_of(domain: str, origin: Origin) -> tuple[str, ...] | None:
    """Return the beginnings of targets that a domain lists for ``origin``; None for all of them.

    Other origins in it are left out: to them these credentials were not given.
    """
    if not domain.split():
        return None
    paths = []
    for place in domain.split():
        if place.startswith("/"):
            paths.append(place)
        else:
            try:
                destination = parse_url(place)
            except InvalidRequest:
                continue
            if destination.origin == origin:
                paths.append(destination.target.decode("ascii"))
    return tuple(paths)


def _rank(offer: DigestOffer) -> int:
    return list(ALGORITHMS.values()).index(offer.hash_name)


def _is_available(hash_name: str) -> bool:
    """Tell whether this Python has a hash: a build that keeps to FIPS has no MD5."""
    try:
        hashlib.new(hash_name)
    except ValueError:
        return False
    return True


def _hash(offer: DigestOffer, *parts: bytes) -> bytes:
    """Return H of the parts with colons between, in hexadecimal."""
    return hashlib.new(offer.hash_name, b":".join(parts)).hexdigest().encode()


def _raw(text: str) -> bytes:
    """Return the bytes that a field's text stands for."""
    return text.encode("latin-1")


def _new_cnonce() -> str:
    return secrets.token_hex(_CNONCE_BYTES)


def _sent_with(request: AuthRequest) -> dict[str, str] | None:
    """Return the parameters of the credentials that a request was sent with; None without Digest's."""
    for sent in challenges(request.headers.get_all("authorization")):
        if sent.scheme == "digest":
            return sent.parameters
    return None
