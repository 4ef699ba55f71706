"""From what a caller wants to one final response: retries, redirects, credentials, cookies, the rate limit.

Read from the bottom up, each step adds one thing to the one below: `_exchange` waits for its turn and sends;
`_authorized` says who we are, and answers a 401; `_followed` goes where redirects lead; `answer` makes the
request again when a policy says so. What each of them lets go of, it has released before it goes on: a wait
holds no connection.
"""

from __future__ import annotations

import itertools
import math

import trio

from trio_http import wire
from trio_http._errors import RequestFailed, TooManyRedirects
from trio_http.messages import Headers, Response, as_wire_headers

from ._auth import Auth, AuthRequest
from ._config import ClientConfig
from ._exchange import begin, begin_on
from ._link import Link, Owner
from ._redirect import is_redirect, redirected
from ._request import Planner, RequestPlan
from ._response import Answer, ReceivedResponse
from ._watch import RequestWatch

_DEADLINE = b"Request-Deadline"


class Flow:
    """How requests of one client become responses.

    Args:
      owner: lends links.
      config: cookies, the rate limit, and how many redirects.
      planner: makes the requests that redirects ask for.

    Attributes:
      is_plain: a request that asks for nothing beyond one exchange needs none of this.
    """

    def __init__(self, owner: Owner, config: ClientConfig, planner: Planner) -> None:
        self._owner = owner
        self._planner = planner
        self._cookies = config.cookies
        self._rate_limit = config.rate_limit
        self._max_redirects = config.max_redirects
        self.is_plain = not (config.instruments or config.rate_limit or config.cookies is not None)

    async def answer(self, plan: RequestPlan) -> Answer:
        """Return the head of the response that the caller is to have, with the link that it came on.

        Raises: as `begin`, and:
          TooManyRedirects, RedirectRefused: the redirect's connection was released.
          Exception: whatever an `Auth` of the caller's raised.

        Cancellation: as `begin`. In the wait before a retry nothing is held.
        """
        retry = plan.settings.retry
        watching = self._owner.watch.request(plan)
        if retry is None:
            return await self._followed(plan, watching)
        retry.count_request()
        method = plan.method.decode("ascii")
        for attempt in itertools.count(1):
            try:
                answer = await self._followed(plan, watching)
            except RequestFailed as exc:
                delay = retry.delay_after_error(
                    exc, method=method, repeatable=plan.is_repeatable, attempt=attempt
                )
                if delay is None or not await retry.pause(delay):
                    raise
            else:
                head = answer.link.head
                assert head is not None
                delay = retry.delay_after_response(
                    head.status_code,
                    Headers._wrap(head.headers),
                    method=method,
                    repeatable=plan.is_repeatable,
                    attempt=attempt,
                )
                if delay is None or not retry.claim(delay):
                    return answer
                await answer.passed_over()
                await trio.sleep(delay)
        raise AssertionError("a policy ends the attempts")

    async def _followed(self, plan: RequestPlan, watching: RequestWatch | None) -> Answer:
        """Be `answer`, for one attempt: with redirects."""
        history: tuple[ReceivedResponse, ...] = ()
        while True:
            answer = await self._authorized(plan, watching)
            answer.history = history
            head = answer.link.head
            assert head is not None
            if not plan.settings.follow_redirects or not is_redirect(head):
                return answer
            link = answer.link
            shown = Response(head.status_code, headers=Headers._wrap(head.headers))
            if len(history) >= self._max_redirects:
                facts = link.facts(response_started=True, closed_because="")
                await answer.passed_over()
                what = f"more than {self._max_redirects} redirects (ClientConfig.max_redirects)"
                raise TooManyRedirects(what, facts, shown)
            try:
                following = redirected(self._planner, link, shown)
            except BaseException:
                await answer.dismissed()
                raise
            history += (await answer.passed_over(),)
            plan = following

    async def _authorized(self, plan: RequestPlan, watching: RequestWatch | None) -> Answer:
        """Be `_followed` without redirects: with credentials, and another attempt after a 401."""
        auth = plan.settings.auth
        if auth is None:
            return await self._exchange(plan, None, watching)
        asked = _auth_request(plan)
        fields = as_wire_headers(await auth.authorize(asked))
        link: Link | None = None
        for round_ in itertools.count(1):
            sent = plan.with_fields(fields)
            answer = await self._exchange(sent, link, watching)
            head = answer.link.head
            assert head is not None
            headers = Headers._wrap(head.headers)
            asked = _auth_request(sent)
            try:
                auth.received(asked, head.status_code, headers)
                if head.status_code != 401 or round_ > auth.rounds or not plan.is_repeatable:
                    return answer
                better = await auth.answer(asked, Response(401, headers=headers), round_)
            except BaseException:
                await answer.dismissed()
                raise
            if better is None:
                return answer
            fields = as_wire_headers(better)
            link = await self._let_go(answer, auth)
        raise AssertionError("the rounds end")

    async def _let_go(self, answer: Answer, auth: Auth) -> Link | None:
        """Read what is left of a 401. Returns the link, still leased, for a scheme that goes on with it."""
        if not auth.keeps_connection:
            await answer.passed_over()
            return None
        return await answer.kept()

    async def _exchange(self, plan: RequestPlan, link: Link | None, watching: RequestWatch | None) -> Answer:
        """Make one exchange, with cookies and in its turn.

        Args:
          link: leased already, for this; None: any.
          watching: who looks on at the request.
        """
        fields: list[tuple[bytes, bytes]] = []
        try:
            if self._rate_limit is not None:
                await self._rate_limit.wait(plan.origin)
            if self._cookies is not None and b"cookie" not in plan.headers.by_name:
                cookie = self._cookies.field_for(plan.url)
                if cookie is not None:
                    fields.append((b"Cookie", cookie.encode("latin-1")))
            if plan.settings.propagate_deadline:
                left = trio.current_effective_deadline() - trio.current_time()
                if left != math.inf:
                    fields.append((_DEADLINE, b"%d" % max(0, int(left * 1000))))
            sent = plan.with_fields(wire.Headers(fields)) if fields else plan
        except BaseException:
            if link is not None:
                self._owner.give_back(link)
            raise
        asked_at = trio.current_time()
        if link is None:
            link = await begin(self._owner, sent, asked_at, watching)
        else:
            link.leased_at = asked_at
            link.watch = None if watching is None else watching.begin(sent)
            await begin_on(link, self._owner, sent)
        assert link.head is not None
        if self._cookies is not None:
            values = [value.decode("latin-1") for value in link.head.headers.get_all(b"set-cookie")]
            if values:
                self._cookies.receive(plan.url, values)
        return Answer(link, self._owner, asked_at)


def _auth_request(plan: RequestPlan) -> AuthRequest:
    """Return a request as its credentials may depend on it."""
    target = plan.target
    if plan.route.is_forwarded and not target.startswith(b"/"):
        target = plan.destination.target
    return AuthRequest(
        method=plan.method.decode("ascii"),
        url=plan.url,
        target=target.decode("latin-1"),
        headers=Headers._wrap(plan.headers),
        content=plan.content if isinstance(plan.content, bytes) else None,
        origin=plan.origin,
    )
