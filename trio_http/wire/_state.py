"""The state of both sides of a connection, and how events change it.

Two rules for this file. Everything that may change a state stands here, and as data. And it does not know
which side we play: both sides' events go through the same tables, so that what we demand of the peer we
demand of ourselves.

There are two coupled machines, the client's and the server's, and two facts that they share: whether the
connection may live on (it never comes back), and which switches of protocol the request has proposed. An
event moves its own side (`EVENT_TRIGGERED`); then the pair may settle further, since each side's end bears on
the other (`_settled`). As there are few combinations, all that can be reached are built at import as a graph
of `JointState` nodes: handling an event is one look-up, and what is not in it is forbidden.
"""

from __future__ import annotations

from typing import Any, Final, TypeAlias

from ._events import (
    ConnectionClosed,
    Data,
    EndOfMessage,
    InformationalResponse,
    Request,
    Response,
)
from ._sentinels import (
    CLIENT,
    CLOSED,
    DONE,
    ERROR,
    IDLE,
    MIGHT_SWITCH_PROTOCOL,
    MUST_CLOSE,
    SEND_BODY,
    SEND_RESPONSE,
    SERVER,
    SWITCHED_PROTOCOL,
    Sentinel,
)

State: TypeAlias = type[Sentinel]
Cause: TypeAlias = Any  # an event's class, or one of the three causes below


class SWITCH_UPGRADE(Sentinel, metaclass=Sentinel):
    """A 101 response, or the proposal of one: a request with Upgrade (RFC 9110 §7.8)."""


class SWITCH_CONNECT(Sentinel, metaclass=Sentinel):
    """A 2xx response to CONNECT, or the proposal of one: a request with that method (RFC 9110 §9.3.6)."""


class FAILED(Sentinel, metaclass=Sentinel):
    """The side broke the protocol, or could not send what it had begun."""


EVENT_TRIGGERED: Final[dict[State, dict[State, dict[Cause, State]]]] = {
    CLIENT: {
        IDLE: {Request: SEND_BODY, ConnectionClosed: CLOSED},
        SEND_BODY: {Data: SEND_BODY, EndOfMessage: DONE},
        DONE: {ConnectionClosed: CLOSED},
        MUST_CLOSE: {ConnectionClosed: CLOSED},
        CLOSED: {ConnectionClosed: CLOSED},
        MIGHT_SWITCH_PROTOCOL: {},
        SWITCHED_PROTOCOL: {},
        ERROR: {},
    },
    SERVER: {
        # A final response in IDLE answers before any request: the 408 and 400 of a server that gives up.
        IDLE: {Response: SEND_BODY, ConnectionClosed: CLOSED},
        SEND_RESPONSE: {
            InformationalResponse: SEND_RESPONSE,
            Response: SEND_BODY,
            SWITCH_UPGRADE: SWITCHED_PROTOCOL,
            SWITCH_CONNECT: SWITCHED_PROTOCOL,
        },
        SEND_BODY: {Data: SEND_BODY, EndOfMessage: DONE},
        DONE: {ConnectionClosed: CLOSED},
        MUST_CLOSE: {ConnectionClosed: CLOSED},
        CLOSED: {ConnectionClosed: CLOSED},
        SWITCHED_PROTOCOL: {},
        ERROR: {},
    },
}

# (client, server) to what the pair becomes: one side has gone, so the other has nobody to talk to next.
STATE_TRIGGERED: Final[dict[tuple[State, State], tuple[State, State]]] = {
    (MIGHT_SWITCH_PROTOCOL, SWITCHED_PROTOCOL): (SWITCHED_PROTOCOL, SWITCHED_PROTOCOL),
    (CLOSED, DONE): (CLOSED, MUST_CLOSE),
    (CLOSED, IDLE): (CLOSED, MUST_CLOSE),
    (ERROR, DONE): (ERROR, MUST_CLOSE),
    (DONE, CLOSED): (MUST_CLOSE, CLOSED),
    (IDLE, CLOSED): (MUST_CLOSE, CLOSED),
    (DONE, ERROR): (MUST_CLOSE, ERROR),
}

NO_PROPOSALS: Final[frozenset[State]] = frozenset()


def _settled(
    client: State, server: State, keep_alive: bool, proposals: frozenset[State]
) -> tuple[State, State]:
    """Return where a pair of states comes to rest."""
    while True:
        before = client, server
        if proposals and client is DONE:
            # Before the rule on keep-alive: a switch may still happen on such a connection.
            client = MIGHT_SWITCH_PROTOCOL
        elif not proposals and client is MIGHT_SWITCH_PROTOCOL:
            client = DONE
        if not keep_alive:
            client = MUST_CLOSE if client is DONE else client
            server = MUST_CLOSE if server is DONE else server
        client, server = STATE_TRIGGERED.get((client, server), (client, server))
        if (client, server) == before:
            return before


class JointState:
    """Both sides' states with the two shared facts, and where each cause leads from here.

    Attributes:
      client, server: the states.
      keep_alive: the connection may carry another exchange.
      proposals: the switches of protocol that the request proposed and no final response has declined.
      by_client, by_server: cause to next node; a cause that is not in it is forbidden now.
      not_persistent: the node in which `keep_alive` is off.
      proposing: a switch to the node in which it is proposed.
      next_cycle: the node of the next exchange, or None while it cannot begin.
      requested: the node behind a request that proposes nothing and lets the connection live on; None unless
        one may come.
      repeated: the node behind such a request and the end of its message; None likewise.
      answered: the node behind a whole final response; None unless one may be sent, and the connection may
        live on as far as anybody has said: then nothing about closing has to stand in it.
    """

    __slots__ = (
        "answered", "by_client", "by_server", "client", "keep_alive", "next_cycle", "not_persistent",
        "proposals", "proposing", "repeated", "requested", "server",
    )  # fmt: skip

    def __init__(self, client: State, server: State, keep_alive: bool, proposals: frozenset[State]) -> None:
        self.client = client
        self.server = server
        self.keep_alive = keep_alive
        self.proposals = proposals
        self.by_client: dict[Cause, JointState] = {}
        self.by_server: dict[Cause, JointState] = {}
        self.not_persistent: JointState = self
        self.proposing: dict[State, JointState] = {}
        self.next_cycle: JointState | None = None
        self.requested: JointState | None = None
        self.repeated: JointState | None = None
        self.answered: JointState | None = None

    def __repr__(self) -> str:
        return f"<JointState client={self.client} server={self.server} keep_alive={self.keep_alive}>"


def _graph() -> JointState:
    """Build every node that can be reached, and return the one of a new connection."""
    nodes: dict[tuple[State, State, bool, frozenset[State]], JointState] = {}
    pending: list[JointState] = []

    def node(client: State, server: State, keep_alive: bool, proposals: frozenset[State]) -> JointState:
        key = (*_settled(client, server, keep_alive, proposals), keep_alive, proposals)
        if key not in nodes:
            nodes[key] = JointState(*key)
            pending.append(nodes[key])
        return nodes[key]

    first = node(IDLE, IDLE, True, NO_PROPOSALS)
    while pending:
        here = pending.pop()
        client, server, keep, proposals = here.client, here.server, here.keep_alive, here.proposals
        for cause, state in EVENT_TRIGGERED[CLIENT][client].items():
            answering = server
            if cause is Request:
                if server is not IDLE:
                    continue  # an answer that came before its request has no use for one
                answering = SEND_RESPONSE
            here.by_client[cause] = node(state, answering, keep, proposals)
        for cause, state in EVENT_TRIGGERED[SERVER][server].items():
            if cause in (SWITCH_UPGRADE, SWITCH_CONNECT) and cause not in proposals:
                continue
            left = (
                NO_PROPOSALS if cause is Response else proposals
            )  # a final response declines what it does not accept
            here.by_server[cause] = node(client, state, keep, left)
        here.by_client[FAILED] = node(ERROR, server, keep, proposals)
        here.by_server[FAILED] = node(client, ERROR, keep, proposals)
        here.not_persistent = node(client, server, False, proposals)
        if client is IDLE:
            for switch in (SWITCH_UPGRADE, SWITCH_CONNECT):
                here.proposing[switch] = node(client, server, keep, proposals | {switch})
        if client is DONE and server is DONE:
            here.next_cycle = node(IDLE, IDLE, keep, NO_PROPOSALS)
    for here in nodes.values():
        here.requested = here.by_client.get(Request)
        if here.requested is not None:
            here.repeated = here.requested.by_client.get(EndOfMessage)
        if here.server is SEND_RESPONSE and here.keep_alive and here.client not in (CLOSED, ERROR):
            here.answered = here.by_server[Response].by_server[EndOfMessage]
    return first


START: Final = _graph()
