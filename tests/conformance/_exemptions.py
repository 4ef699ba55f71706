"""The public functions that promise less than a checkpoint each time, and why.

Trio's rule: its async functions execute a checkpoint whenever they succeed; of an ``async with``, the entry
or the exit does. What stands here is told in the docstrings, too, and a test sees that it is still true: a
function that has got its checkpoint has to leave this table.
"""

from __future__ import annotations

from typing import Final

_HOOK = "the client calls it within a request, which has a checkpoint, and it only computes"
_ENTRY = "the exit of its block is a checkpoint"
_PART = "a part of leaving a block, whose entry was a checkpoint; a connection is given back without an await"

_SMALL = (
    "what the kernel takes at once costs no turn; who only sends has a checkpoint of its own, or needs one"
)
_PIPELINED = "whoever takes one head after the other gives way by itself; the server does before each"
_ABORT = "an abort is synchronous on a socket, and clean-up must not be cut short"

# Never a checkpoint of its own in the case that is tried.
NO_CHECKPOINT: Final[dict[str, str]] = {
    "trio_http.Auth.authorize": _HOOK,
    "trio_http.Auth.answer": _HOOK,
    "trio_http.BasicAuth.authorize": _HOOK,
    "trio_http.DigestAuth.authorize": _HOOK,
    "trio_http.DigestAuth.answer": _HOOK,
    "trio_http.ClientConnection.__aenter__": _ENTRY,
    "trio_http.ContentReader.__aenter__": _ENTRY,
    "trio_http.MessageBody.__aenter__": _ENTRY,
    "trio_http.ResponseBody.release_early": _PART,
    "trio_http.ResponseBody.leave": _PART,
    "trio_http.ResponseBody.end": _PART,
    "trio_http.connection.HTTPConnection.next_head[is here]": _PIPELINED,
    "trio_http.connection.HTTPConnection.send[SocketTransport]": _SMALL,
    "trio_http.transport.Transport.send_all[of little]": _SMALL,
    "trio_http.transport.Transport.aclose_forcefully": _ABORT,
    "trio_http.transport.Transport.__aenter__": _ENTRY,
    "trio_http.transport.TransportStream.__aenter__": _ENTRY,
    "trio_http.testing.FaultyStream.__aenter__": _ENTRY,
    "trio_http.testing.MemoryStream.__aenter__": _ENTRY,
    "trio_http.testing.SimulatedStream.__aenter__": _ENTRY,
    "trio_http.testing.SimulatedNetwork.__aenter__": _ENTRY,
    "trio_http.testing.SimulatedListener.__aenter__": _ENTRY,
}

# A cancel comes out of every call; other tasks do not get their turn in each.
NO_TURN_FOR_OTHERS: Final[dict[str, str]] = {
    "trio_http.Lines.__anext__[of a piece that is here]": "a line is short, and pieces of the body give way",
}

# Others get their turn; a cancel does not come out, and nothing is waited for.
NOT_CANCELLED: Final[dict[str, str]] = {
    "trio_http.transport.StreamTransport.aclose_forcefully": _ABORT,
    "trio_http.transport.TLSOverTransport.aclose_forcefully": _ABORT,
}
