"""Who gives out what has to be given back, and who takes it over: the tables of the rule on ownership.

A key is the end of a dotted name as it is written at the call, without underscores in front of its owner:
``dial`` is everybody's, ``owner.take`` only that of something called so, and ``.begin`` only a function that
is called without any owner.
"""

from __future__ import annotations

from typing import Final

#: What is in the hands of the caller when the call returns. A `Link` or an `Answer` is a leased connection.
TAKERS: Final = frozenset(
    """
    socket.socket socketpair fromfd dup from_stdlib_socket listener.accept view.accept sock.accept detach
    os.open .open trio.open_file tempfile.mkstemp select.epoll
    open_tcp_stream open_ssl_over_tcp_stream open_unix_socket open_tcp_listeners
    open_unix_listener inherited_listener systemd_listeners _listening _with_directory _opened
    PartialFile.open content.open source.open segment.open
    memory_pair memory_stream_pair memory_stream_one_way_pair lockstep_stream_pair
    connect_host connect_tcp connect_unix .race _connected _connected_by_tcp
    dial _dialed _secured _to_proxy .tls_over TLSTransport.handshake tls.secure
    owner.take pool.take self.take ledger.take lease ._leased .begin
    _exchange _attempted _authorized _let_go answer.kept flow.answer
    """.split()
)

#: Of these, which places of a tuple are such a thing, when it is not the first one alone.
GIVES: Final = {
    "_with_directory": (1,),
    "lockstep_stream_pair": (0, 1),
    "memory_pair": (0, 1),
    "memory_stream_one_way_pair": (0, 1),
    "memory_stream_pair": (0, 1),
    "socketpair": (0, 1),
}

#: Awaited with it, they own it from their first instruction on, whatever then happens. Of ours, the parameter
#: is named, and the rule looks into the function as if it had just taken that.
TAKE_OVER: Final = {
    "_closed_after_failure": ("reader",),
    "_exchange": ("link",),
    "_read_whole": ("link",),
    "_secured": ("stream",),
    "aclose_forcefully": (),
    "_wait_past": ("answer",),
    "close_listeners": (),
    "discard": (),
    "enter_async_context": (),
    "handshake": ("sock",),
    "secure": ("stream",),
    "serve_transport": (),
    "tls_over": ("stream",),
    "whole": ("link",),
}

#: As these, but after a good end it is the caller's again.
BORROW: Final = {
    "_begin_again": ("link",),
    "_open_way": ("transport",),
    "_read": ("answer",),
    "begin_and_close": ("link", "reader"),
    "begin_on": ("link",),
}

#: Called with it, they keep it, or close it if they cannot: containers, nurseries, the pool.
KEEP: Final = frozenset(
    """
    append add put setdefault enter_context push callback start_soon
    give_back _finish_soon _settle_dial _hand_over admit refuse close_unix_listener
    """.split()
)

#: Methods of the thing itself after which there is nothing left to lose: those of an answer and of a body end
#: the lease.
RELEASE: Final = frozenset(
    """
    close close_socket aclose aclose_forcefully abort detach release
    dismissed kept passed_over whole leave end
    """.split()
)

#: Called with it, they make what holds it, as a class does.
WRAP: Final = frozenset({"transport_over"})

#: What is taken without a name for it, and what gives it back.
TOKENS: Final = {
    "acquire": "release",
    "acquire_nowait": "release",
    "acquire_on_behalf_of": "release_on_behalf_of",
    "acquire_on_behalf_of_nowait": "release_on_behalf_of",
    "budget.withdraw": "give_back",
    "gate.enter": "leave",
    "handlers.add_drain": "remove_drain",
    "retry.claim": "give_back",
    "self.claim": "give_back",
}

#: Names of the tables that are not ours, so that no definition of ours has to be there for them.
BORROWED: Final = frozenset(
    """
    socket socketpair fromfd dup from_stdlib_socket accept detach open open_file mkstemp epoll open_tcp_stream
    open_ssl_over_tcp_stream open_unix_socket open_tcp_listeners memory_stream_pair memory_stream_one_way_pair
    lockstep_stream_pair append add put setdefault enter_context push callback start_soon enter_async_context
    acquire acquire_nowait acquire_on_behalf_of acquire_on_behalf_of_nowait
    release release_on_behalf_of abort close aclose aclose_forcefully
    """.split()
)
