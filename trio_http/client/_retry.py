"""Whether a request is made once more, and when: a policy to hold, and a budget to share.

What decides, in this order:

1. *Would it do harm?* An error says by its facts whether the server may have acted on the request. If it
   cannot have, any method may be repeated; else only those of `Retry.methods`, and so after a response, which
   the server has made by acting in one way or another.
2. *Could it help?* A lost connection, a failed dial, an incomplete response, and a status that says "later"
   pass with time. The rest does not: a request that cannot be sent, a response that breaks the protocol or
   is too large, and a certificate that is not trusted will be the same the next time; a closed pool opens no
   more; and `StatusError` is raised by callers, about a response for which the policy was asked already.
3. *Is it possible?* The content must be there to be sent again.
4. *Is it worth it?* Not beyond the number of attempts, not when the server asks for more time than the policy
   has, not without a token of the budget, and not when the caller's deadline would come first: then what is
   there, an error or a response, is handed out at once.
"""

from __future__ import annotations

import random
import ssl
from collections.abc import Iterable
from typing import Final

import attrs
import trio

from trio_http._errors import ConnectFailed, ConnectionLost, HTTPError, ResponseIncomplete
from trio_http._kinds import check_all, check_number, made_of, number, whole_number
from trio_http.messages import Headers

from ._retry_after import retry_after

# Repeating them does what doing them once does (RFC 9110 §9.2.2).
_IDEMPOTENT: Final = frozenset(["GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"])

# Too many requests (RFC 6585 §4), and the gateway's and the server's own ways to say that something behind
# them is not there now (RFC 9110 §15.6.3-5). Not 500: a server that fails for what it was asked fails again.
_STATUSES: Final = frozenset([429, 502, 503, 504])

# Errors that pass with time.
_PASSING: Final = (ConnectFailed, ConnectionLost, ResponseIncomplete)

# Ten times a tenth is a little less than one.
_WHOLE_TOKEN: Final = 1 - 1e-9


class RetryBudget:
    """A store of retries, so that a server in trouble is not asked several times as much as one in health.

    Each request puts in a part of a token, and so does each second; each retry takes a whole one. So however
    many requests fail, retries are at most ``ratio`` of them, ``minimum_per_second``, and once what had been
    saved up. To be shared by all requests of a client; each call costs the same. It begins full.

    Args:
      ratio: tokens for a request, at least 0. Precedent: a tenth in Google's book on reliability and in
        gRPC's examples, a fifth in Finagle.
      minimum_per_second: tokens for a second, at least 0, for clients that ask seldom. Precedent: Finagle has
        10 for a whole service; a program is one of many clients. Arbitrary.
      capacity: tokens that can be saved up, at least 1. Precedent: Finagle keeps 10 a second for 10 seconds.

    Raises:
      TypeError, ValueError: an argument is no number, or out of its range.
    """

    __slots__ = ("_as_of", "_capacity", "_minimum_per_second", "_ratio", "_tokens")

    def __init__(self, ratio: float = 0.1, minimum_per_second: float = 1.0, capacity: float = 100.0) -> None:
        check_number("ratio", ratio, finite=True)
        check_number("minimum_per_second", minimum_per_second, finite=True)
        check_number("capacity", capacity, 1, finite=True)
        self._ratio = ratio
        self._minimum_per_second = minimum_per_second
        self._capacity = self._tokens = float(capacity)
        self._as_of: float | None = None

    def __repr__(self) -> str:
        return (
            f"RetryBudget(ratio={self._ratio!r}, minimum_per_second={self._minimum_per_second!r},"
            f" capacity={self._capacity!r})"
        )

    @property
    def tokens(self) -> float:
        """How many retries there are now, in parts, too."""
        now = trio.current_time()
        # A second `trio.run` may begin at an earlier time than the first one ended.
        elapsed = 0.0 if self._as_of is None else max(0.0, now - self._as_of)
        self._as_of = now
        self._tokens = min(self._capacity, self._tokens + elapsed * self._minimum_per_second)
        return self._tokens

    def deposit(self) -> None:
        """Count a request. To be called once for each, not for its retries."""
        self._tokens = min(self._capacity, self.tokens + self._ratio)

    def withdraw(self) -> bool:
        """Take a token for a retry; return whether there was one."""
        if self.tokens < _WHOLE_TOKEN:
            return False
        self._tokens -= 1
        return True

    def give_back(self) -> None:
        """Return the token of a retry that was not made after all."""
        self._tokens = min(self._capacity, self.tokens + 1)


def _as_methods(given: Iterable[str]) -> frozenset[str]:
    return frozenset(check_all("methods", given, str, "set"))


def _as_statuses(given: Iterable[int]) -> frozenset[int]:
    statuses = frozenset(check_all("statuses", given, int, "set"))
    for status in statuses:
        if not 200 <= status <= 599:
            raise ValueError(f"statuses must be of 200-599, not {status!r}")
    return statuses


_seconds: Final = number(0, finite=True, unit="seconds")


@attrs.frozen(kw_only=True)
class Retry:
    """When a request is made once more.

    ::

        retry.count_request()
        for attempt in itertools.count(1):
            try:
                response = await send()
            except RequestFailed as error:
                delay = retry.delay_after_error(error, method=method, repeatable=True, attempt=attempt)
                if delay is None or not await retry.pause(delay):
                    raise
            else:
                delay = retry.delay_after_response(
                    response.status, response.headers, method=method, repeatable=True, attempt=attempt
                )
                if delay is None or not await retry.pause(delay):
                    return response

    Two policies are equal when they would wait alike; the budget and the dice do not count.

    Attributes:
      attempts: how often a request is made at most, the first time included, at least 1. Precedent: 3 in the
        AWS tools.
      methods: which requests may be repeated though the server may have acted on them: the idempotent ones of
        RFC 9110 §9.2.2. Add POST only for a server that recognizes a repetition.
      statuses: of responses that mean "later", 200-599.
      backoff: how long the first wait is, in seconds, at least 0; each further one is twice as long.
        Precedent: Finagle, AWS and stamina begin between 0.05 and 1.
      max_backoff: how long no wait is exceeded, in seconds, at least 0. Precedent: stamina 5, AWS 20, gRPC
        120. Arbitrary.
      jitter: a wait is of random length between 0 and the one above, so that clients which failed together
        do not come back together.
      honour_retry_after: a response's Retry-After takes the place of the backoff; jitter then adds to it, for
        a server tells all its clients the same.
      max_retry_after: seconds, at least 0; when the server asks for more, the response is handed out instead.
        Arbitrary: about as long as somebody waits.
      budget: what retries are taken from; None: they are unlimited in number.
      rng: the dice for the jitter.
    """

    attempts: int = attrs.field(default=3, validator=whole_number(1))
    methods: frozenset[str] = attrs.field(default=_IDEMPOTENT, converter=_as_methods)
    statuses: frozenset[int] = attrs.field(default=_STATUSES, converter=_as_statuses)
    backoff: float = attrs.field(default=0.5, validator=_seconds)
    max_backoff: float = attrs.field(default=30.0, validator=_seconds)
    jitter: bool = True
    honour_retry_after: bool = True
    max_retry_after: float = attrs.field(default=60.0, validator=_seconds)
    budget: RetryBudget | None = attrs.field(
        factory=RetryBudget, eq=False, validator=made_of(RetryBudget, optional=True)
    )
    rng: random.Random = attrs.field(factory=random.Random, eq=False, repr=False)

    def count_request(self) -> None:
        """Tell the budget of a request. To be called once for each, before its first attempt."""
        if self.budget is not None:
            self.budget.deposit()

    def delay_after_error(
        self, error: HTTPError, *, method: str, repeatable: bool, attempt: int
    ) -> float | None:
        """Return after how many seconds a request that failed may be made again; None: not at all.

        Takes nothing from the budget: `pause` and `claim` do.

        Args:
          error: what it failed with.
          method: of the request.
          repeatable: its content can be sent from the beginning again, or nothing of it was taken yet.
          attempt: which attempt has failed, counted from 1.

        Raises:
          ValueError: ``attempt`` is below 1.
        """
        if not isinstance(error, _PASSING) or _is_about_a_certificate(error):
            return None
        if error.facts.may_have_acted and method not in self.methods:
            return None
        return self._delay(repeatable, attempt, None)

    def delay_after_response(
        self, status: int, headers: Headers, *, method: str, repeatable: bool, attempt: int
    ) -> float | None:
        """Return after how many seconds a request that got this response may be made again; None: not at
        all.

        Takes nothing from the budget: `pause` and `claim` do.

        Args:
          status, headers: of the response.
          method: of the request.
          repeatable: its content can be sent from the beginning again.
          attempt: which attempt it was, counted from 1.

        Raises:
          ValueError: ``attempt`` is below 1.

        Reference: RFC 9110 §10.2.3.
        """
        if status not in self.statuses or method not in self.methods:
            return None
        asked = retry_after(headers) if self.honour_retry_after else None
        if asked is not None and asked > self.max_retry_after:
            return None
        return self._delay(repeatable, attempt, asked)

    def delay_before_redirect(self, headers: Headers) -> float | None:
        """Return after how many seconds the server wants its redirect to be followed, mostly 0; None: so late
        that it should not be followed by itself.

        That is no retry: it counts as no attempt, and takes nothing from the budget.

        Args:
          headers: of the response with a status of 300-399.

        Reference: RFC 9110 §10.2.3.
        """
        asked = retry_after(headers) if self.honour_retry_after else None
        if asked is None:
            return 0.0
        return asked if asked <= self.max_retry_after else None

    def _delay(self, repeatable: bool, attempt: int, asked: float | None) -> float | None:
        if attempt < 1:
            raise ValueError(f"attempt is counted from 1, not {attempt!r}")
        if not repeatable or attempt >= self.attempts:
            return None
        if self.budget is not None and self.budget.tokens < _WHOLE_TOKEN:
            return None
        # Doubled a hundred times, whatever is not 0 is beyond any limit, and still a number.
        backoff = min(self.max_backoff, self.backoff * 2.0 ** min(attempt - 1, 100))
        if self.jitter:
            return self.rng.uniform(0.0, backoff) + (asked or 0.0)
        return backoff if asked is None else asked

    def claim(self, delay: float) -> bool:
        """Take what a retry after ``delay`` seconds needs: time before the deadline, and a token.

        For those who have to let something go before they wait, such as a streamed response: when this
        returns False, they still have it.

        Returns:
          Whether both were there. A wait that ends just at the deadline of the caller's scopes leaves no time
          for the request, so it is not begun. The budget is only drawn on when there is time.
        """
        if trio.current_time() + delay >= trio.current_effective_deadline():
            return False
        return self.budget is None or self.budget.withdraw()

    async def pause(self, delay: float) -> bool:
        """Wait for ``delay`` seconds, if `claim` allows it.

        Args:
          delay: at least 0.

        Returns:
          Whether the request may be made again now. False comes at once: the caller then hands out what there
          is instead of using up the time that is left.

        Cancellation: the budget has its token back; nothing else is held.
        """
        if not self.claim(delay):
            await trio.lowlevel.checkpoint()
            return False
        try:
            await trio.sleep(delay)
        except BaseException:
            if self.budget is not None:
                self.budget.give_back()
            raise
        return True


def _is_about_a_certificate(error: BaseException) -> bool:
    """Whether the peer showed a certificate that is not trusted: it will show the same one again."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return True
        cause = cause.__cause__
    return False
