"""What one request may want different from its client's other requests."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import attrs

from trio_http._kinds import charset, function, made_of, switch
from trio_http.instruments import ClientExchangeRecord
from trio_http.messages import CharsetChoice

from ._auth import Auth
from ._config import ClientPace
from ._interim import InterimResponse
from ._retry import Retry

OnInterim: TypeAlias = Callable[[InterimResponse], None]
Report: TypeAlias = Callable[[ClientExchangeRecord], None]


@attrs.frozen(kw_only=True)
class RequestSettings:
    """How a request is made and its response read, as far as HTTP does not say it.

    Attributes:
      auth: who the client is; None: nobody.
      follow_redirects: a redirect is not a final answer.
      retry: when the request is made again; None: never.
      decode: content codings are undone.
      charset: that of a response's text, where its Content-Type names none.
      pace: how the server has to keep up.
      propagate_deadline: the server is told how much time is left.
      on_interim: is called with each interim response as it comes.
      report: is called at the end of each exchange, however it ended. If it raises an `Exception`, that is
        logged.
    """

    pace: ClientPace = attrs.field(validator=made_of(ClientPace))
    auth: Auth | None = None
    follow_redirects: bool = attrs.field(default=False, validator=switch)
    retry: Retry | None = attrs.field(default=None, validator=made_of(Retry, optional=True))
    decode: bool = attrs.field(default=True, validator=switch)
    charset: CharsetChoice = attrs.field(default="utf-8", validator=charset)
    propagate_deadline: bool = attrs.field(default=False, validator=switch)
    on_interim: OnInterim | None = attrs.field(default=None, validator=function)
    report: Report | None = attrs.field(default=None, validator=function)

    @property
    def is_plain(self) -> bool:
        """One exchange is all that this asks for."""
        return not (
            self.auth is not None
            or self.follow_redirects
            or self.retry is not None
            or self.propagate_deadline
            or self.report is not None
        )
