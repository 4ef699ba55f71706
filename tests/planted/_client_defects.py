"""Mistakes that somebody could make in the client."""

from __future__ import annotations

from tests.planted._planting import Defect

_GET = "tests/cancellation/test_client.py::test_a_get"
_POOL = "tests/cancellation/test_pool.py::"
_CLIENT = "tests/cancellation/test_client.py::"
_CONTENTS = "tests/cancellation/test_contents.py::"
_FLOW = "tests/cancellation/test_flow.py::test_a_request_of_several_exchanges_that_is_cancelled_holds_nothing"
_HOLES = "tests/cancellation/test_holes.py::"
_CLIENT_HOLES = "tests/cancellation/test_holes_client.py::"

_WAITING = f"{_POOL}test_waiting_for_a_connection_that_another_task_gives_back"
_CLOSING = f"{_CLIENT}test_closing_a_client_while_requests_run"

# What a check says of a connection that nobody has and nobody gave back.
_LEASED = r"leased=1"
_HANGS = r"has not ended within|TooSlowError"
# What the sweep says of a socket that was left to the collector.
_DROPPED = r"dropped without a close|unclosed"
_WRONG_ERROR = r"only Cancelled or nothing may come out"

LEDGER = [
    Defect(
        name="a dial for nobody that is not spare",
        what="who gives up its wait does not say that its dial is one for nobody now, which makes room.",
        file="client/_ledger.py",
        anchor="        self._waiting -= 1\n        return self._settled(place, [])\n",
        instead="        self._waiting -= 1\n        return []\n",
        battery=(f"{_POOL}test_a_dial_that_nobody_waits_for_any_more_makes_room",),
        symptom=r"an empty place is forgotten|nobody wants while",
    ),
    Defect(
        name="room that is made by a close is given to nobody",
        what="the end of a connection no longer settles whose turn it is.",
        file="client/_ledger.py",
        anchor="        self._remove(slot)\n        return self._settled(slot.place, [])",
        instead="        self._remove(slot)\n        return []",
        battery=(f"{_POOL}test_one_of_two_that_wait_gives_up",),
        symptom=_HANGS,
    ),
    Defect(
        name="a connection is taken off the books twice",
        what="closing what the pool has closed already counts as another close.",
        file="client/_ledger.py",
        anchor="        if slot.state is State.CLOSED:\n            return []\n        assert",
        instead="        assert",
        battery=(_CLOSING,),
        symptom=r"KeyError",
    ),
    Defect(
        name="nobody is told of a failed dial",
        what="the oldest waiter is not woken, and nobody else dials for it.",
        file="client/_ledger.py",
        anchor="= [Fail(self._next_waiter(place))] if place.waiters else []",
        instead="= []",
        battery=(f"{_POOL}test_a_dial_that_fails",),
        symptom=_HANGS + r"|waiting=1",
    ),
    Defect(
        name="a closed connection still counts",
        what="the number of an origin's connections is not lowered when one ends.",
        file="client/_ledger.py",
        anchor="        slot.state = State.CLOSED\n        place.size -= 1\n",
        instead="        slot.state = State.CLOSED\n",
        battery=(_GET,),
        symptom=r"_Place object at \w+>\.size",
    ),
]

POOL = [
    Defect(
        name="an await in the hand-over",
        what="between asking for a connection and waiting for it lies a checkpoint.",
        file="client/_pool.py",
        anchor="        self._carry_out(self.ledger.wait(plan.route, waiter))\n",
        instead="        self._carry_out(self.ledger.wait(plan.route, waiter))\n"
        "        await trio.lowlevel.checkpoint()\n",
        battery=(_WAITING,),
        symptom=r"waiting=1|leased=1|TrioInternalError",  # the task is woken in some other wait
    ),
    Defect(
        name="a waiter that is not removed",
        what="a request that is cancelled in its wait stays in the queue, and is woken elsewhere.",
        file="client/_pool.py",
        anchor="            self._carry_out(self.ledger.give_up(waiter))\n",
        instead="",
        battery=(_WAITING,),
        symptom=r"waiting=1|leased=1|TrioInternalError",
    ),
    Defect(
        name="an await behind the wake-up",
        what="who was given a connection has a checkpoint before it looks at it.",
        file="client/_pool.py",
        anchor="        await trio.lowlevel.wait_task_rescheduled(give_up)\n",
        instead="        await trio.lowlevel.wait_task_rescheduled(give_up)\n"
        "        await trio.lowlevel.checkpoint()\n",
        battery=(_WAITING,),
        symptom=_LEASED,
    ),
    Defect(
        name="a wake-up without its connection",
        what="the waiter is rescheduled before its connection is noted.",
        file="client/_pool.py",
        anchor="                    waiter.link = slot.connection\n",
        instead="",
        battery=(_WAITING,),
        symptom=r"PoolClosed",
    ),
    Defect(
        name="a polite close in front of the books",
        what="a connection in an unknown state is closed by an await that can be cancelled, and struck "
        "out after.",
        file="client/_pool.py",
        anchor="        link.transport.close()\n        self._forget(link)\n        self._carry_out(",
        instead="        await link.transport.aclose()\n        self._forget(link)\n        self._carry_out(",
        battery=(_GET,),
        symptom=_LEASED,
    ),
    Defect(
        name="an idle time that is not lifted",
        what="a connection keeps the deadline of its idle time while it is leased.",
        file="client/_pool.py",
        anchor="            link.receive_deadline = math.inf\n            if not link",
        instead="            if not link",
        battery=(f"{_CLIENT_HOLES}test_the_idle_time_of_a_connection_ends_with_its_lease",),
        symptom=r"ConnectionLost|idle",
    ),
    Defect(
        name="a dial that ends behind a checkpoint",
        what="before a finished dial is entered in the books, other tasks run, and a cancel may come.",
        file="client/_pool.py",
        anchor="            # No checkpoint from here to the report.\n",
        instead="            await trio.lowlevel.checkpoint()\n",
        battery=("tests/cancellation/test_client.py::test_opening_using_and_closing_a_client", _CLOSING),
        symptom=r"False = all\(<generator object test_opening_using_and_closing_a_client|left open",
    ),
    Defect(
        name="a dial that was abandoned keeps its connection",
        what="what a dial brings that has lost its slot in the same moment is not closed.",
        file="client/_pool.py",
        anchor="                if transport is not None:\n                    self._finish_soon(transport)\n"
        "",
        instead="",
        battery=(f"{_CLIENT_HOLES}test_what_a_dial_brings_that_was_cancelled_is_closed",),
        symptom=r"left open",
    ),
    Defect(
        name="a dial that cannot be abandoned",
        what="nobody has the cancel scope of a dial, so it goes on without its slot.",
        file="client/_pool.py",
        anchor="        scope = self._dials[slot] = trio.CancelScope(",
        instead="        scope = trio.CancelScope(",
        battery=(f"{_CLIENT_HOLES}test_there_are_never_more_dials_than_connections_may_be",),
        symptom=r"2 dials at once",
    ),
]

EXCHANGE = [
    Defect(
        name="a lease that is not given back",
        what="a request that is cancelled before it sends drops its connection.",
        file="client/_exchange.py",
        anchor="        owner.give_back(link)  # neither the wire nor the transport was called yet\n",
        instead="",
        battery=(_GET,),
        symptom=_LEASED,
    ),
    Defect(
        name="a close behind an await",
        what="a failed exchange lets other tasks run before its connection is closed.",
        file="client/_exchange.py",
        anchor="            await owner.discard(link, *ending(failure or exc))\n"
        "        if isinstance(exc, Local",
        instead="            await trio.lowlevel.checkpoint()\n"
        "            await owner.discard(link, *ending(failure or exc))\n        if isinstance(exc, Local",
        battery=(_GET,),
        symptom=_LEASED,
    ),
    Defect(
        name="a cancel that becomes a lost connection",
        what="a cancelled exchange is told as a failed one.",
        file="client/_exchange.py",
        anchor="        if isinstance(exc, LINK_ERRORS) and not own:",
        instead="        if isinstance(exc, (*LINK_ERRORS, trio.Cancelled)) and not own:",
        battery=(_GET,),
        symptom=_WRONG_ERROR,
    ),
    Defect(
        name="an upload that goes on behind the final response",
        what="the final response does not stop the sending.",
        file="client/_exchange.py",
        anchor='            nursery.cancel_scope.cancel(reason="the final response has come")\n',
        instead="",
        battery=(f"{_CLIENT_HOLES}test_an_early_answer_ends_content_that_waits",),
        symptom=_HANGS,
    ),
    Defect(
        name="an upload that swallows the cancel",
        what="whatever ends the caller's content is taken for an error of the content.",
        file="client/_upload.py",
        anchor="            except Exception as exc:  # noqa: BLE001  # the caller's own",
        instead="            except BaseException as exc:  # noqa: BLE001  # the caller's own",
        battery=(f"{_CONTENTS}test_content_whose_client_is_closed_meanwhile_fails_with_that",),
        symptom=r"swallowed|closed after step",
    ),
    Defect(
        name="content that stays open without a connection",
        what="only an error closes the content of a request that waits for a connection, and a cancel "
        "is none.",
        file="client/_exchange.py",
        anchor="    except BaseException:\n        await _closed_after_failure(reader)\n        raise\n"
        "    link.watch",
        instead="    except Exception:\n        await _closed_after_failure(reader)\n        raise\n"
        "    link.watch",
        battery=(f"{_CLIENT_HOLES}test_content_is_closed_also_when_its_request_never_had_a_connection",),
        symptom=r"the content was left open",
    ),
    Defect(
        name="a response that belongs to nobody",
        what="between the head and the object that owns its connection lies a checkpoint.",
        file="client/_requester.py",
        anchor="        # No checkpoint from here on: the link is in nobody's hands.\n",
        instead="        import trio\n\n        await trio.lowlevel.checkpoint()\n",
        battery=(f"{_CLIENT}test_a_streamed_answer_that_is_left_half_way",),
        symptom=_LEASED,
    ),
]

BODY = [
    Defect(
        name="given back before the body's end",
        what="a request that is cancelled in its body returns the connection, with the rest of the body "
        "on it.",
        file="client/_answer.py",
        anchor="        content = await body.read(limit)\n    except BaseException as exc:\n"
        "        await body.end(*ending(exc))\n",
        instead="        content = await body.read(limit)\n    except BaseException:\n"
        "        owner.give_back(link)\n",
        battery=(f"{_CLIENT}test_a_get_of_a_big_answer_over_a_narrow_way",),
        symptom=r"answer no request|InvalidRequest|in the pool",
    ),
    Defect(
        name="a body that is left behind an await",
        what="leaving a streamed response has a checkpoint before the connection is closed.",
        file="client/_body.py",
        anchor='            await self._discard("body not read"',
        instead="            await trio.lowlevel.checkpoint()\n"
        '            await self._discard("body not read"',
        battery=(f"{_CLIENT}test_a_streamed_answer_that_is_left_half_way",),
        symptom=_LEASED,
    ),
    Defect(
        name="a decoded piece that is lost",
        what="a piece is taken from the decoder, and then there is a checkpoint at which a cancel drops it.",
        file="client/_body.py",
        anchor="                    if not yielded:\n"
        "                        await trio.lowlevel.cancel_shielded_checkpoint()",
        instead="                    if not yielded:\n"
        "                        await trio.lowlevel.checkpoint()",
        battery=(f"{_HOLES}test_the_body_of_a_response_can_be_gone_on_with",),
        symptom=r"was received",
    ),
    Defect(
        name="a rest that is lost",
        what="the rest of a piece is taken before the checkpoint instead of after it.",
        file="messages/_body.py",
        anchor="                await trio.lowlevel.checkpoint()\n                piece = self._rest",
        instead='                piece, self._rest = self._rest, b""\n'
        "                await trio.lowlevel.checkpoint()",
        battery=(f"{_HOLES}test_the_body_of_a_response_can_be_gone_on_with",),
        symptom=r"was received",
    ),
    Defect(
        name="a body that stays busy",
        what="only a success or an error ends a reading, and a cancel is none of them.",
        file="messages/_body.py",
        anchor="        finally:\n            self._taking = False\n",
        instead="        except Exception:\n            self._taking = False\n            raise\n"
        "        self._taking = False\n",
        battery=(f"{_HOLES}test_the_body_of_a_response_can_be_gone_on_with",),
        symptom=r"BusyResourceError",
    ),
    Defect(
        name="a part that stays open",
        what="a cancelled download closes its file by an await that is cancelled itself.",
        file="client/_download.py",
        anchor="            with trio.CancelScope(shield=True,"
        " deadline=trio.current_time() + _CLOSING_SECONDS):\n"
        "                await trio.to_thread.run_sync(part.close)\n            part.close()",
        instead="            await trio.to_thread.run_sync(part.close)\n            part.close()",
        battery=(
            f"{_CLIENT_HOLES}test_a_download_that_is_cancelled_lets_go_of_its_file_and_can_be_gone_on_with",
        ),
        symptom=r"the part is still open",
    ),
]

FLOW = [
    Defect(
        name="a redirect whose body is left",
        what="a request that is cancelled while it reads a redirect keeps its connection for ever.",
        file="client/_answer.py",
        anchor="            except BaseException as exc:\n                await body.end(*ending(exc))\n"
        "                raise\n            response =",
        instead="            response =",
        battery=(f"{_FLOW}[_Redirects]",),
        symptom=_LEASED,
    ),
    Defect(
        name="a retry that holds its connection",
        what="the response that is to be passed over is let go after the wait instead of before.",
        file="client/_flow.py",
        anchor="            await answer.passed_over(delay)\n            await trio.sleep_until(until)",
        instead="            await trio.sleep_until(until)\n            await answer.passed_over(delay)",
        battery=(f"{_FLOW}[_Retries]",),
        symptom=_LEASED,
    ),
    Defect(
        name="a token that is not given back",
        what="a retry that is cancelled in its wait counts as one that was made.",
        file="client/_retry.py",
        anchor="        except BaseException:\n            if self.budget is not None:",
        instead="        except Exception:\n            if self.budget is not None:",
        battery=(f"{_HOLES}test_a_pause_before_a_retry_keeps_no_token",),
        symptom=r"tokens were taken for",
    ),
    Defect(
        name="a kept connection is lost in the rate limit",
        what="a dialogue over one connection that is cancelled while it waits for its turn drops that.",
        file="client/_flow.py",
        anchor="            if link is not None:\n                self._owner.give_back(link)\n"
        "            raise\n        asked_at",
        instead="            raise\n        asked_at",
        battery=(f"{_FLOW}[_KeptConnection]",),
        symptom=_LEASED,
    ),
    Defect(
        name="a turn that is lost",
        what="who is cancelled in the moment of its turn has used it up.",
        file="client/_rate_limit.py",
        anchor="            await trio.lowlevel.cancel_shielded_checkpoint()\n",
        instead="            await trio.lowlevel.checkpoint()\n",
        battery=(f"{_HOLES}test_a_turn_that_is_given_up_is_the_next_ones_and_nobody_waits_longer_for_it",),
        symptom=r"turns at",
    ),
    Defect(
        name="a place in the queue that is not left",
        what="who gives up its wait for a turn is woken all the same.",
        file="client/_rate_limit.py",
        anchor="            del queue[task]  # now: its predecessor must not wake somebody who is awake\n",
        instead="",
        battery=(f"{_HOLES}test_a_turn_that_is_given_up_is_the_next_ones_and_nobody_waits_longer_for_it",),
        symptom=r"rescheduled|TooSlowError|TrioInternalError",
    ),
    Defect(
        name="a wake-up that is lost in the queue",
        what="who leaves the head of the queue does not wake the next.",
        file="client/_rate_limit.py",
        anchor="                if queue:\n                    trio.lowlevel.reschedule(next(iter(queue)))",
        instead="                pass",
        battery=(f"{_HOLES}test_a_turn_that_is_given_up_is_the_next_ones_and_nobody_waits_longer_for_it",),
        symptom=r"waiting=1|TooSlowError",
    ),
    Defect(
        name="a race that swallows the cancel",
        what="an attempt takes the caller's cancel for the end of the race.",
        file="client/_race.py",
        anchor="            if _has_cancelled(exc):\n                raise\n",
        instead="            if _has_cancelled(exc):\n                return\n",
        battery=(f"{_FLOW}[_Race]",),
        symptom=_WRONG_ERROR + r"|swallowed",
    ),
    Defect(
        name="a prize that belongs to nobody",
        what="between an attempt's result and who keeps it lies a checkpoint.",
        file="client/_race.py",
        anchor="        won = False\n        if not self._over:",
        instead="        won = False\n        await trio.lowlevel.checkpoint()\n        if not self._over:",
        battery=(f"{_HOLES}test_a_race_for_things_loses_none",),
        symptom=r"a thing was left open",
    ),
    Defect(
        name="a prize that is kept by a cancelled race",
        what="a race that is cancelled does not discard what it has kept so far.",
        file="client/_race.py",
        anchor="        for result in self.kept:\n            await self._drop(result)\n        raised",
        instead="        raised",
        battery=(f"{_HOLES}test_a_race_for_things_loses_none",),
        symptom=r"a thing was left open",
    ),
]

ENDS = [
    Defect(
        name="a proxy's connection that leaks",
        what="a tunnel that is cancelled, and has not failed, leaves its socket open.",
        file="client/_dial.py",
        anchor="        except BaseException:\n            await transport.aclose_forcefully()\n"
        "            raise\n        times.proxied",
        instead="        except Exception:\n            await transport.aclose_forcefully()\n"
        "            raise\n        times.proxied",
        battery=("tests/cancellation/test_proxies.py::test_a_dial_through_a_proxy_leaves_nothing_open",),
        symptom=_DROPPED,
    ),
    Defect(
        name="a lookup that is never over",
        what="a cancelled lookup stays in the books, and everybody who shares it waits for ever.",
        file="client/_addresses.py",
        anchor="        finally:\n            del self._lookups[key]\n            lookup.done.set()\n",
        instead="        else:\n            del self._lookups[key]\n            lookup.done.set()\n",
        battery=(f"{_CLIENT_HOLES}test_a_lookup_that_is_cancelled_is_begun_again_by_who_shares_it",),
        symptom=_HANGS,
    ),
    Defect(
        name="an await before the client is closed",
        what="leaving the client's block has a checkpoint before its connections are closed.",
        file="client/_client.py",
        anchor="            transports = self._pool.close()\n",
        instead="            await trio.lowlevel.checkpoint()\n            transports = self._pool.close()\n",
        battery=(f"{_CLIENT}test_opening_using_and_closing_a_client",),
        symptom=r"False = all\(<generator object test_opening_using_and_closing_a_client",
    ),
    Defect(
        name="a client that is half open",
        what="entering that is cancelled leaves the nursery that it has opened.",
        file="client/_client.py",
        anchor="            await self.__aexit__(type(exc), exc, exc.__traceback__)\n            raise",
        instead="            raise",
        battery=(f"{_CLIENT}test_opening_using_and_closing_a_client",),
        symptom=r"TrioInternalError|left behind|Cancel scope stack",
    ),
    Defect(
        name="an upgrade that is shielded without a deadline",
        what="leaving it waits for as long as the stream's close does, which may be for ever.",
        file="client/_upgrade.py",
        anchor="                with trio.move_on_after(_CLOSE_SECONDS):",
        instead="                with trio.CancelScope(shield=True):",
        battery=(f"{_HOLES}test_leaving_an_upgrade_of_the_clients_ends_though_the_close_waits",),
        symptom=_HANGS,
    ),
]

DEFECTS = [*LEDGER, *POOL, *EXCHANGE, *BODY, *FLOW, *ENDS]
