"""Mistakes that somebody could make in the server, and in what both sides stand on."""

from __future__ import annotations

from tests.planted._planting import Defect

_SERVER = "tests/cancellation/test_server.py::"
_SOCKETS = "tests/cancellation/test_sockets.py::"
_HOLES = "tests/cancellation/test_holes.py::"
_CLIENT_HOLES = "tests/cancellation/test_holes_client.py::"
_SERVER_HOLES = "tests/cancellation/test_holes_server.py::"

_ACCEPTING = "tests/cancellation/test_holes_accepting.py::"

_TWO_REQUESTS = f"{_SERVER}test_two_requests_on_a_kept_connection"

# What the sweep says of a socket that was left to the collector.
_DROPPED = r"dropped without a close|unclosed"
_HANGS = r"has not ended within|TooSlowError"

CONNECTION = [
    Defect(
        name="a connection that is closed behind an await",
        what="the end of a connection has a checkpoint before the close.",
        file="server/_connection.py",
        anchor="                await link.transport.aclose_forcefully()  # nothing, after a regular end\n",
        instead="                await trio.lowlevel.checkpoint()\n"
        "                await link.transport.aclose_forcefully()\n",
        battery=(_TWO_REQUESTS,),
        symptom=r"the connection is still open",
    ),
    Defect(
        name="a cut answer that looks whole",
        what="an answer that only its end delimits is left without an abort when it is cancelled.",
        file="server/_response_stream.py",
        anchor="        if exc is not None or self._broken:\n            self._abort()\n"
        "        elif not self._ended:\n"
        "            await trio.lowlevel.checkpoint()",
        instead="        if isinstance(exc, Exception) or self._broken:\n            self._abort()\n"
        "        elif not self._ended:",
        battery=(
            f"{_SOCKETS}test_a_chunked_answer_that_is_cut_never_looks_whole",
            f"{_SOCKETS}test_an_answer_that_only_the_close_ends_never_looks_whole_when_it_is_cut",
        ),
        symptom=r"the client received|looks like the whole answer",
    ),
    Defect(
        name="an abort that is a close",
        what="a socket is closed without the option that makes a reset of it.",
        file="transport/_socket.py",
        anchor="            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_ZERO)",
        instead="            pass",
        battery=(f"{_SOCKETS}test_an_answer_that_only_the_close_ends_never_looks_whole_when_it_is_cut",),
        symptom=r"looks like the whole answer",
    ),
    Defect(
        name="a cancel that is settled as an error",
        what="the server answers for a cancelled handler as for one that failed, and goes on.",
        file="server/_connection.py",
        anchor="        except Exception as exc:  # noqa: BLE001  # the boundary",
        instead="        except BaseException as exc:  # noqa: BLE001  # the boundary",
        battery=(_TWO_REQUESTS,),
        symptom=r"swallowed|failed|the client received",
    ),
    Defect(
        name="a request that is dropped",
        what="a head that comes in the moment of a cancel that is not for it is forgotten.",
        file="server/_connection.py",
        anchor="                self._resume = head  # it came in the moment",
        instead="                # it came in the moment",
        battery=(f"{_SERVER_HOLES}test_a_request_that_comes_with_the_shutdown_is_answered",),
        symptom=r"the client received b''",
    ),
    Defect(
        name="lingering without a limit",
        what="a client that neither sends nor goes away keeps its connection.",
        file="server/_linger.py",
        anchor="    with trio.move_on_after(config.times.linger):",
        instead="    with trio.CancelScope():",
        battery=(f"{_SERVER}test_lingering_behind_an_answer_that_came_before_the_bodys_end",),
        symptom=_HANGS,
    ),
    Defect(
        name="an end that is shielded without a deadline",
        what="a stream whose close waits for its peer keeps the server's task, which cannot be cancelled.",
        file="server/_connection.py",
        anchor="        with trio.move_on_after(config.times.linger):\n"
        "            await link.transport.aclose()",
        instead="        with trio.CancelScope(shield=True):\n            await link.transport.aclose()",
        battery=(f"{_HOLES}test_the_end_of_a_connection_ends_though_the_close_waits",),
        symptom=_HANGS,
    ),
    Defect(
        name="an upgrade that waits for its peer after an error",
        what="a handler's error closes its stream politely, which may take for ever.",
        file="server/_upgrade.py",
        anchor="        if exc is not None:\n            await transport.aclose_forcefully()",
        instead="        if exc is not None:\n            await transport.aclose()",
        battery=(f"{_HOLES}test_leaving_an_upgrade_of_the_servers_ends_though_the_close_waits",),
        symptom=_HANGS,
    ),
]

HANDLERS = [
    Defect(
        name="a disconnect that is forgotten",
        what="a disconnect that comes within a block which holds it back is not remembered.",
        file="server/_handler_scope.py",
        anchor="            self._withheld = CancelReason.CLIENT_DISCONNECTED\n",
        instead="            pass\n",
        battery=(f"{_SERVER_HOLES}test_a_disconnect_that_was_held_back_comes_at_the_end_of_the_block",),
        symptom=r"never told",
    ),
    Defect(
        name="a hard stop that is held back",
        what="the end of a shutdown's grace is treated as a disconnect, which a handler may hold back.",
        file="server/_link.py",
        anchor="        self.handlers.cancel(CancelReason.DRAIN)\n        self.transport.abort()",
        instead="        self.handlers.disconnect(trio.current_time())\n        self.transport.abort()",
        battery=(f"{_ACCEPTING}test_the_end_of_a_grace_comes_through_whatever_holds_a_handler",),
        symptom=r"the server goes on|assert",
    ),
    Defect(
        name="two readers of one connection",
        what="who reads ahead beside a handler is told to stop, and not waited for.",
        file="server/_read_ahead.py",
        anchor="        self._scope.cancel()\n        await self._finished.wait()",
        instead="        self._scope.cancel()",
        battery=(f"{_SERVER_HOLES}test_who_reads_ahead_beside_a_handler_stops_before_the_next_request",),
        symptom=r"500 Internal Server Error",
    ),
    Defect(
        name="a reader that cannot be stopped",
        what="reading ahead runs in another scope than the one that stops it.",
        file="server/_read_ahead.py",
        anchor="            with self._scope:\n",
        instead="            with trio.CancelScope():\n",
        battery=(f"{_SERVER_HOLES}test_who_reads_ahead_beside_a_handler_stops_before_the_next_request",),
        symptom=_HANGS + r"|the client received|ScriptedPeer",
    ),
    Defect(
        name="a reader that ends unheard",
        what="reading ahead that ends by an error does not say that it has ended.",
        file="server/_read_ahead.py",
        anchor="        finally:\n            self._finished.set()",
        instead="        else:\n            self._finished.set()",
        battery=(f"{_SERVER_HOLES}test_a_client_that_resets_beside_a_handler_ends_the_connection",),
        symptom=_HANGS,
    ),
    Defect(
        name="half an interim response in front of an answer",
        what="a cancelled send leaves the wire in the belief that all is well.",
        file="connection/_paced_connection.py",
        anchor="        except BaseException:\n            self.wire.send_failed()\n            raise\n"
        "        finally:\n"
        "            self._end_reading()",
        instead="        except Exception:\n            self.wire.send_failed()\n            raise\n"
        "        finally:\n"
        "            self._end_reading()",
        battery=(f"{_SERVER_HOLES}test_an_interim_response_that_is_cut_is_followed_by_nothing",),
        symptom=r"the client received",
    ),
    Defect(
        name="a body's deadline that is not reset",
        what="the client's time for a part of its body runs on while the handler works.",
        file="connection/_paced_connection.py",
        anchor="        finally:\n            self.receive_deadline = math.inf\n",
        instead="        finally:\n",
        battery=(f"{_SERVER_HOLES}test_the_time_for_a_body_is_not_the_handlers",),
        symptom=r"the client received",
    ),
    Defect(
        name="a reader's deadline that is not reset",
        what="the client's time to read runs on while the handler works.",
        file="connection/_paced_connection.py",
        anchor="        self.send_deadline = math.inf\n        self._count_reading(trio.current_time())",
        instead="        self._count_reading(trio.current_time())",
        battery=(f"{_SERVER_HOLES}test_the_time_to_read_an_answer_is_not_that_of_the_next_handler",),
        symptom=r"ScriptedPeer|the client received",
    ),
    Defect(
        name="a deadline that is forgotten",
        what="the ticker drops who has more time than when it was entered.",
        file="connection/_ticker.py",
        anchor="            elif deadline != math.inf:\n                self._push(timed, deadline)",
        instead="",
        battery=(f"{_SERVER_HOLES}test_an_idle_connection_is_closed_in_the_end",),
        symptom=_HANGS,
    ),
    Defect(
        name="a nap that is not cut short",
        what="an earlier deadline does not wake the ticker before the one that it sleeps for.",
        file="connection/_ticker.py",
        anchor="        if self._nap is not None and self._nap.deadline > deadline:\n"
        "            self._nap.deadline = deadline\n",
        instead="",
        battery=(f"{_SERVER_HOLES}test_a_body_that_stalls_is_given_up_in_time",),
        symptom=r"500 Internal Server Error",
    ),
]

ACCEPTING = [
    Defect(
        name="a checkpoint between accepting and owning",
        what="a socket that was accepted is in nobody's hands when the loop is cancelled.",
        file="server/_accept.py",
        anchor="                _hand_over(connection, peername, admit, gate, refuse)\n",
        instead="                await trio.lowlevel.checkpoint()\n"
        "                _hand_over(connection, peername, admit, gate, refuse)\n",
        battery=(f"{_ACCEPTING}test_accepting_loses_nobody_and_another_loop_goes_on_with_the_listener",),
        symptom=_DROPPED + r"|TooSlowError",  # it waits for somebody who has come and was lost
    ),
    Defect(
        name="a view that closes the listener",
        what="the accept loop closes a descriptor that is not its own.",
        file="server/_accept.py",
        anchor="        view.detach()\n",
        instead="        view.close()\n",
        battery=(f"{_ACCEPTING}test_accepting_loses_nobody_and_another_loop_goes_on_with_the_listener",),
        symptom=r"Bad file descriptor|OSError",
    ),
    Defect(
        name="a stream that waits at the gate and is forgotten",
        what="only an error closes a foreign stream that was accepted and has no room, and a cancel is none.",
        file="server/_accept.py",
        anchor="        except BaseException:\n            if entered:\n                gate.leave()\n"
        "            try:",
        instead="        except Exception:\n            if entered:\n                gate.leave()\n"
        "            try:",
        battery=(f"{_ACCEPTING}test_a_foreign_stream_that_waits_for_room_is_closed_when_it_is_not_admitted",),
        symptom=r"in nobody's hands",
    ),
    Defect(
        name="a listener that stays open behind a cancel",
        what="closing one listener passes on a cancel, and the next ones stay open.",
        file="server/_server.py",
        anchor="            with trio.CancelScope(deadline=-math.inf, shield=True):",
        instead="            with trio.CancelScope(deadline=-math.inf):",
        battery=(f"{_ACCEPTING}test_all_listeners_are_closed_whoever_is_cancelled",),
        symptom=r"a listener was left open",
    ),
    Defect(
        name="a socket that is no connection yet",
        what="a connection that is cancelled in its PROXY header is left open.",
        file="server/_server.py",
        anchor="                    if transport is None:\n                        sock.close()\n",
        instead="",
        battery=(f"{_ACCEPTING}test_what_is_accepted_and_not_yet_a_connection_leaves_no_descriptor[wait]",),
        symptom=_DROPPED,
    ),
    Defect(
        name="a refusal that is cancelled",
        what="a connection beyond the limit is closed only if its refusal is not cancelled.",
        file="server/_refuser.py",
        anchor="        finally:\n            await transport.aclose_forcefully()\n",
        instead="        finally:\n",
        battery=(f"{_ACCEPTING}test_what_is_accepted_and_not_yet_a_connection_leaves_no_descriptor[refuse]",),
        symptom=_DROPPED,
    ),
    Defect(
        name="the server's epoll stays open",
        what="the end of a server leaves the descriptor to the collector.",
        file="server/_serve.py",
        anchor="                if shared.poll is not None:\n                    shared.poll.close()\n"
        "            helpers",
        instead="                pass\n            helpers",
        battery=(f"{_SOCKETS}test_serving_tcp_leaves_no_descriptor",),
        symptom=r"left open: .*eventpoll",  # of what lists the descriptors,
    ),
]

TRANSPORT = [
    Defect(
        name="a handshake that leaks",
        what="a TLS handshake that is cancelled, and has not failed, leaves its socket open.",
        file="transport/_tls.py",
        anchor="            await transport._shake_hands()\n        except BaseException",
        instead="            await transport._shake_hands()\n        except Exception",
        battery=("tests/cancellation/test_proxies.py::test_a_dial_through_a_proxy_leaves_nothing_open",),
        symptom=_DROPPED,
    ),
    Defect(
        name="plaintext that is lost",
        what="what is decrypted is taken before the checkpoint instead of after it.",
        file="transport/_tls.py",
        anchor="                await trio.lowlevel.checkpoint()\n"
        "                if engine.stored or engine.ended:\n"
        "                    return engine.take()\n                continue",
        instead="                taken = engine.take()\n                await trio.lowlevel.checkpoint()\n"
        "                return taken",
        battery=(f"{_HOLES}test_a_transport_can_be_gone_on_with[tls]",),
        symptom=r"was received",
    ),
    Defect(
        name="a piece that is lost",
        what="a piece of a body is taken from the wire, and then there is a checkpoint at which a "
        "cancel drops it.",
        file="connection/_connection.py",
        anchor="            await trio.lowlevel.cancel_shielded_checkpoint()\n            return piece",
        instead="            await trio.lowlevel.checkpoint()\n            return piece",
        battery=(f"{_HOLES}test_the_body_of_a_request_can_be_gone_on_with",),
        symptom=r"was received",
    ),
    Defect(
        name="a reader that stays parked",
        what="who is cancelled while it waits through the epoll is still noted as waiting.",
        file="transport/_socket.py",
        anchor="        self._reader = None\n        return Abort.SUCCEEDED",
        instead="        return Abort.SUCCEEDED",
        battery=(f"{_HOLES}test_a_transport_can_be_gone_on_with[parked]",),
        symptom=r"BusyResourceError|TrioInternalError",
    ),
    Defect(
        name="a reader that stays in passing",
        what="who is cancelled while it lets others run, with bytes at hand, counts as receiving for ever.",
        file="transport/_socket.py",
        anchor="        try:\n            await trio.lowlevel.checkpoint()\n        finally:\n"
        "            self._passing = False",
        instead="        await trio.lowlevel.checkpoint()\n        self._passing = False",
        battery=(f"{_HOLES}test_a_transport_can_be_gone_on_with[parked]",),
        symptom=r"BusyResourceError",
    ),
    Defect(
        name="a parked reader that is not woken",
        what="closing a socket does not wake who waits for it through the epoll.",
        file="transport/_socket.py",
        anchor="                task, self._reader = self._reader, None\n                reschedule(task)\n"
        "        notify_closing(fd)",
        instead="                self._reader = None\n        notify_closing(fd)",
        battery=(f"{_CLIENT_HOLES}test_a_client_that_waits_through_an_epoll_can_be_closed",),
        symptom=r"TooSlowError",
    ),
    Defect(
        name="force that is not forceful",
        what="closing a foreign stream at once waits for its peer.",
        file="transport/_stream.py",
        anchor="            with trio.CancelScope(deadline=-math.inf, shield=True):",
        instead="            with trio.CancelScope(shield=True):",
        battery=(f"{_HOLES}test_the_end_of_a_connection_ends_though_the_close_waits",),
        symptom=r"has not ended within",
    ),
]

DEFECTS = [*CONNECTION, *HANDLERS, *ACCEPTING, *TRANSPORT]
