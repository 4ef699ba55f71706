"""From what a caller wants to one final response: retries, redirects, credentials, cookies, the rate limit.

Read from the bottom up, each step adds one thing to the one below: `_exchange` waits for its turn and sends;
`_authorized` says who we are, and answers a 401; `_attempted` makes the request again when a policy says so;
`_followed` goes where redirects lead. What each of them lets go of, it has released before it goes on: a wait
holds no connection. What a step adds to a request (credentials, cookies, the time that is left) is for that
one sending: the steps above go on with the request that they had.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Awaitable, Callable
from typing import Final

import trio

from trio_http import wire
from trio_http._errors import InvalidRequest, RequestFailed, TooManyRedirects
from trio_http.messages import FieldsInput, Headers, Response, as_wire_headers

from ._answer import Answer
from ._auth import Auth, AuthRequest
from ._config import ClientConfig
from ._exchange import begin, begin_and_close, begin_on, is_about
from ._link import Link, Owner
from ._plan import RequestPlan
from ._received import ReceivedResponse
from ._redirect import is_redirect, redirected
from ._request import Planner
from ._retry import Retry
from ._watch import RequestWatch

_DEADLINE: Final = b"Request-Deadline"
# In milliseconds, 115 days. Servers read ten digits; a deadline that is further away is none.
_MAX_DEADLINE: Final = 10**10


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
        return await self._followed(plan, reads=False)

    async def whole(self, plan: RequestPlan) -> ReceivedResponse:
        """Return the response that the caller is to have, with its content; so a retry is also for content
        that did not come whole.

        Raises: as `answer` and `Answer.whole`.

        Cancellation: as `answer` and `Answer.whole`.
        """
        answer = await self._followed(plan, reads=True)
        return await answer.whole() if answer.response is None else answer.response

    async def _followed(self, plan: RequestPlan, *, reads: bool) -> Answer:
        """Go where redirects lead.

        Args:
          reads: the content of what is no redirect is read, too.
        """
        watching = self._owner.watch.request(plan)
        history: tuple[ReceivedResponse, ...] = ()
        while True:
            answer = await self._attempted(plan, watching, reads=reads)
            answer.history = history
            if answer.response is not None:
                answer.response.history = history
            if not _leads_on(plan, answer):
                return answer
            retry = plan.settings.retry
            link = answer.link
            shown = Response(answer.head.status_code, headers=Headers._wrap(answer.head.headers))
            if len(history) >= self._max_redirects:
                facts = link.facts(response_started=True, closed_because="")
                await answer.passed_over()
                what = f"more than {self._max_redirects} redirects (ClientConfig.max_redirects)"
                raise TooManyRedirects(what, facts, shown)
            try:
                wait = 0.0 if retry is None else retry.delay_before_redirect(shown.headers)
            except BaseException:
                await answer.dismissed()
                raise
            until = math.inf if wait is None else trio.current_time() + wait
            if wait != 0 and until >= trio.current_effective_deadline():
                return answer  # the caller may have the time that we have not
            try:
                following = redirected(self._planner, plan, link, shown, anywhere=self._owner.leads_anywhere)
            except BaseException:
                await answer.dismissed()
                raise
            history += (await answer.passed_over(),)
            if wait:
                await trio.sleep_until(until)
            plan = following

    async def _attempted(self, plan: RequestPlan, watching: RequestWatch | None, *, reads: bool) -> Answer:
        """Make one request, of those that redirects make of one, as often as the policy for that says.

        Each is attempted by itself: what an earlier one has done is done.
        """
        retry = plan.settings.retry
        if retry is None:
            answer = await self._authorized(plan, watching, reads=reads)
            if reads:
                await self._read(plan, answer)
            return answer
        retry.count_request()
        method, repeatable = plan.method.decode("ascii"), plan.is_repeatable
        for attempt in itertools.count(1):
            try:
                answer = await self._authorized(plan, watching, reads=reads)
                try:
                    delay = retry.delay_after_response(
                        answer.head.status_code,
                        Headers._wrap(answer.head.headers),
                        method=method,
                        repeatable=repeatable,
                        attempt=attempt,
                    )
                    # owned: with a delay it is for `_wait_past`, and nothing is awaited on the way there
                    if delay is not None and not retry.claim(delay):
                        delay = None
                except BaseException:  # of the caller's own dice
                    await answer.dismissed()
                    raise
                if delay is None:
                    if reads:
                        await self._read(plan, answer)
                    return answer
            except RequestFailed as exc:
                if not is_about(exc, plan):
                    raise
                delay = retry.delay_after_error(exc, method=method, repeatable=repeatable, attempt=attempt)
                if delay is None or not await retry.pause(delay):
                    raise
            else:
                await self._wait_past(answer, retry, delay)
        raise AssertionError("a policy ends the attempts")

    async def _read(self, plan: RequestPlan, answer: Answer) -> None:
        """Read the content of an answer, unless it is a redirect that may be followed."""
        if answer.response is None and not _leads_on(plan, answer):
            answer.response = await answer.whole()

    async def _wait_past(self, answer: Answer, retry: Retry, delay: float) -> None:
        """Let go of an answer, and wait before the retry that was claimed."""
        until = trio.current_time() + delay
        try:
            await answer.passed_over(delay)
            await trio.sleep_until(until)
        except BaseException:
            if retry.budget is not None:
                retry.budget.give_back()
            raise

    async def _authorized(self, plan: RequestPlan, watching: RequestWatch | None, *, reads: bool) -> Answer:
        """Make one request with credentials, and once more after a 401.

        Args:
          reads: a 401 that is here whole may be read, so that its connection is free while the `Auth` thinks.
        """
        auth = plan.settings.auth
        if auth is None:
            return await self._exchange(plan, None, watching)

        async def authorized() -> RequestPlan:
            return _with_credentials(plan, auth, await auth.authorize(_auth_request(plan)))

        sent = await authorized()
        link: Link | None = None
        for round_ in itertools.count(1):
            answer = await self._exchange(sent, link, watching, authorized)
            head, sent_last = answer.head, answer.link.plan
            assert sent_last is not None
            headers = Headers._wrap(head.headers)
            asked = _auth_request(sent_last)
            try:
                auth.received(asked, head.status_code, headers)
                if head.status_code != 401 or round_ > auth.rounds or not plan.is_repeatable:
                    return answer
                if reads and not auth.keeps_connection and answer.is_here:
                    # Who fetches a token may need a connection to the same server, and wait for this one.
                    answer.response = await answer.whole()
                better = await auth.answer(asked, Response(401, headers=headers), round_)
                if better is None:
                    return answer
                sent = _with_credentials(plan, auth, better)
            except BaseException:
                await answer.dismissed()
                raise
            link = await self._let_go(answer, auth)
        raise AssertionError("the rounds end")

    async def _let_go(self, answer: Answer, auth: Auth) -> Link | None:
        """Read what is left of a 401. Returns the link, still leased, for a scheme that goes on with it."""
        if not auth.keeps_connection:
            await answer.passed_over()
            return None
        return await answer.kept()

    async def _exchange(
        self,
        plan: RequestPlan,
        link: Link | None,
        watching: RequestWatch | None,
        authorized: Callable[[], Awaitable[RequestPlan]] | None = None,
    ) -> Answer:
        """Make one exchange, with cookies and in its turn.

        Args:
          link: leased already, for this; None: any.
          watching: who looks on at the request.
          authorized: gives the plan with new credentials, for another sending; None: it needs none.
        """

        async def again() -> RequestPlan:
            return self._completed(plan if authorized is None else await authorized())

        try:
            if self._rate_limit is not None:
                await self._rate_limit.wait(plan.origin)
            sent = self._completed(plan)
        except BaseException:
            if link is not None:
                self._owner.give_back(link)
            raise
        asked_at = trio.current_time()
        if link is None:
            link = await begin(self._owner, sent, asked_at, watching, again)
        else:
            link.leased_at = asked_at
            link.watch = None if watching is None else watching.begin(sent)
            await self._begin_again(link, sent)
        assert link.head is not None
        answer = Answer(link, self._owner, asked_at)
        if self._cookies is not None:
            values = [value.decode("latin-1") for value in link.head.headers.get_all(b"set-cookie")]
            if values:
                try:
                    self._cookies.receive(plan.url, values)
                except BaseException:  # of the caller's own list of public suffixes
                    await answer.dismissed()
                    raise
        return answer

    def _completed(self, plan: RequestPlan) -> RequestPlan:
        """Return a request with what is true at this moment: cookies, and the time that is left."""
        fields: list[tuple[bytes, bytes]] = []
        if self._cookies is not None and b"cookie" not in plan.headers.by_name:
            cookie = self._cookies.field_for(plan.url)
            if cookie is not None:
                fields.append((b"Cookie", cookie.encode("latin-1")))
        if plan.settings.propagate_deadline:
            # Rounded down: a server must not think that it has longer. In a cancelled scope it is -inf.
            left = max(0.0, trio.current_effective_deadline() - trio.current_time()) * 1000
            if left < _MAX_DEADLINE:
                fields.append((_DEADLINE, b"%d" % left))
        return plan.with_fields(wire.Headers(fields)) if fields else plan

    async def _begin_again(self, link: Link, plan: RequestPlan) -> None:
        """Be `begin_on` for a link that was kept, with content that may have to be opened."""
        if isinstance(plan.content, bytes):
            await begin_on(link, self._owner, plan)
            return
        try:
            reader = await plan.content.open()
        except BaseException as exc:
            if link.watch is not None:
                link.watch.error = exc
            self._owner.give_back(link)
            raise
        await begin_and_close(link, self._owner, plan, reader)


def _leads_on(plan: RequestPlan, answer: Answer) -> bool:
    """Tell whether an answer is a redirect, and is to be followed."""
    return plan.settings.follow_redirects and is_redirect(answer.head)


def _with_credentials(plan: RequestPlan, auth: Auth, fields: FieldsInput) -> RequestPlan:
    """Return a request with the fields that an `Auth` gave for it.

    Raises:
      InvalidRequest: they cannot be sent. What they are is not told: they are credentials.
    """
    try:
        return plan.with_fields(as_wire_headers(fields))
    except (InvalidRequest, wire.LocalProtocolError, UnicodeEncodeError):
        what = f"the fields that {type(auth).__name__} gives cannot be sent: a name that is no token, a value"
        raise InvalidRequest(f"{what} with a control character, or framing (RFC 9110 §5)") from None


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
