"""How long a handler may take, as a trusted client hands its own deadline on."""

from __future__ import annotations

import math
import re
from typing import Final

from ._request import Request

#: The field that carries the time which is left to whoever asked, in milliseconds, as a client's trio program
#: knows it (`trio.current_effective_deadline`). Relative, for the clocks of two machines differ; what the way
#: took is not taken off. Precedent: gRPC's grpc-timeout.
FIELD: Final = "request-deadline"

_MILLISECONDS: Final = re.compile("[0-9]{1,10}")


def client_deadline_of(request: Request, now: float) -> float:
    """Return until when a trusted client wants the answer to a request that came ``now``; `math.inf` when it
    does not say.

    A field that is no number is taken for absent: the request is sound without it.
    """
    if request._link.trusts_deadline:
        value = request.headers.get(FIELD)
        if value is not None and _MILLISECONDS.fullmatch(value):
            return now + int(value) / 1000
    return math.inf
