"""Each step of a script does the same in memory, over TCP, over a Unix socket and under TLS."""

from __future__ import annotations

import socket
import sys

import pytest
import trio
import trio.testing

from tests.testing._ways import TCP, TLS, TLS_IN_MEMORY, UNIX, every_plain_way, every_way, scene
from trio_http.testing import Script, ScriptedPeer, memory_pair


async def all_from(stream: trio.abc.ReceiveStream) -> bytes:
    data = b""
    async for part in stream:
        data += part
    return data


# ------------------------------------------------------------------------------------------------- receiving


@every_way
async def test_a_whole_exchange_goes_by_the_script(way: str) -> None:
    script = (
        Script()
        .expect(b"GET / HTTP/1.1\r\n")
        .expect_until(b"\r\n\r\n", startswith=b"Host:", contains=b"example")
        .send(b"HTTP/1.1 200 OK\r\n\r\n")
        .expect_end()
        .close()
    )
    async with scene(way, script) as played, trio.open_nursery() as nursery:
        nursery.start_soon(played.peer.play)
        for part in (b"GET / HT", b"TP/1.1\r\nHost: exam", b"ple\r\n\r\n"):
            await played.stream.send_all(part)
        assert await played.stream.receive_some() == b"HTTP/1.1 200 OK\r\n\r\n"
        if way.startswith("tls"):
            await played.stream.unwrap()
            await played.beneath.aclose()
        else:
            await played.stream.send_eof()
            assert await played.stream.receive_some() == b""
    assert played.peer.finished
    assert played.peer.received == b"GET / HTTP/1.1\r\nHost: example\r\n\r\n"


@every_way
async def test_a_mismatch_names_the_step_and_shows_both_byte_strings_and_breaks_the_connection(
    way: str,
) -> None:
    async with scene(way, Script().send(b"hello").expect(b"PUT /x")) as played:
        await played.stream.send_all(b"POST /x and more")
        text = await played.failure()
        assert text == "step 2 of 2, expect(b'PUT /x'):\n  expected: b'PUT /x'\n  got:      b'POST /'"
        with pytest.raises(trio.BrokenResourceError):
            while True:
                await played.stream.send_all(b"anybody?")
                await played.stream.receive_some()


@every_plain_way
@pytest.mark.parametrize("script", [Script().expect(b"abc"), Script().expect_until(b"c")], ids=str)
async def test_an_early_end_shows_what_came_before_it(way: str, script: Script) -> None:
    async with scene(way, script) as played:
        await played.stream.send_all(b"ab")
        await played.stream.send_eof()
        text = await played.failure()
    assert "got:      b'ab'" in text
    assert "then: the end of the stream" in text


@every_plain_way
async def test_what_comes_up_to_the_end_is_looked_at(way: str) -> None:
    script = Script().expect(b"a").expect_until_end(startswith=b"b", contains=b"d")
    for sent, verdict in ((b"abcde", ""), (b"axd", "expected: b'b'"), (b"abc", "expected: b'd'")):
        async with scene(way, script) as played:
            await played.stream.send_all(sent)
            await played.stream.send_eof()
            if verdict:
                assert verdict in await played.failure()
            else:
                await played.peer.play()
                assert played.peer.received == sent


@every_plain_way
async def test_an_end_and_a_break_are_told_apart_or_not_as_the_script_wants(way: str) -> None:
    for script in (Script().expect_end(), Script().expect_end_or_broken()):
        async with scene(way, script) as played:
            await played.stream.send_eof()
            await played.peer.play()
    for script in (Script().expect_broken(), Script().expect_end_or_broken()):
        async with scene(way, script) as played:
            await played.stream.send_all(b"x")
            assert "got:      b'x'" in await played.failure()


@pytest.mark.parametrize("way", ["memory", TCP])
async def test_a_reset_of_the_other_side_is_expected_or_told(way: str) -> None:
    for script in (Script().expect_broken(), Script().expect_end_or_broken()):
        async with scene(way, script) as played:
            await ScriptedPeer(over=played.stream).reset().play()
            await played.peer.play()
    for script in (Script().expect_end(), Script().expect(b"x"), Script().expect_until_end()):
        async with scene(way, script) as played:
            await ScriptedPeer(over=played.stream).reset().play()
            text = await played.failure()
            assert text.startswith(f"step 1 of 1, {script.steps[0].name}: ")
            assert text.endswith("received before: b''")


async def test_silence_is_expected_for_a_time_of_trios_clock(autojump_clock: trio.testing.MockClock) -> None:
    async with scene("memory", Script().expect_nothing(30).expect_nothing(5)) as played:
        start = trio.current_time()
        await played.peer.play()
        assert trio.current_time() - start == 35


@pytest.mark.parametrize("way", [TCP, UNIX])
async def test_a_byte_breaks_the_silence_of_a_socket(way: str) -> None:
    async with scene(way, Script().expect_nothing(60)) as played:
        await played.stream.send_all(b"x")
        assert "expected: nothing for 60 s\n  got:      b'x'" in await played.failure()


# --------------------------------------------------------------------------------------------------- sending


@every_way
async def test_bytes_sent_one_by_one_are_received_one_by_one(way: str) -> None:
    data = bytes(range(100))
    async with scene(way, Script().send_bytewise(data).wait(0)) as played:
        parts: list[bytes] = []

        async def receive() -> None:
            while sum(map(len, parts)) < len(data):
                parts.append(await played.stream.receive_some())
                for _ in range(5):  # a program that has other things to do
                    await trio.lowlevel.checkpoint()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(receive)
            nursery.start_soon(played.peer.play)
    assert parts == [data[at : at + 1] for at in range(100)]


@pytest.mark.interop
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux says what has left the kernel")
async def test_bytes_that_cannot_leave_one_by_one_are_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    """A peer that receives nothing makes the kernel hold the bytes back, and join them to one segment."""
    monkeypatch.setattr("trio_http.testing._conversation._LEAVES_WITHIN", 0.1)
    async with scene("tcp", Script().send(bytes(1 << 16)).send_bytewise(b"abc")) as played:
        played.stream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        own = played.peer._own
        assert isinstance(own, trio.SocketStream)
        own.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        text = await played.failure()
    assert "step 2 of 2" in text
    assert "0.1 s in which b'a' could not leave" in text


async def test_bytes_sent_slowly_come_in_pieces_with_time_between(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with scene("memory", Script().send_slowly(b"abcdefgh", each=3, seconds=10).close()) as played:
        pieces: list[tuple[float, bytes]] = []
        start = trio.current_time()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(played.peer.play)
            async for piece in played.stream:
                pieces.append((trio.current_time() - start, piece))
    assert pieces == [(0, b"abc"), (10, b"def"), (20, b"gh")]


# --------------------------------------------------------------------------------------------------- waiting


@every_way
async def test_quiet_is_when_the_other_side_can_do_no_more(way: str) -> None:
    done: list[int] = []

    async with scene(way, Script().send(b"go").wait_until_quiet()) as played:

        async def work() -> None:
            assert await played.stream.receive_some() == b"go"
            for number in range(20):
                await trio.lowlevel.checkpoint()
                done.append(number)
            await played.stream.receive_some()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(work)
            await played.peer.play()
            assert len(done) == 20
            nursery.cancel_scope.cancel()


async def test_a_call_may_be_synchronous_or_not_and_its_error_comes_out_as_it_is() -> None:
    told, asked = trio.Event(), trio.Event()
    peer = ScriptedPeer().call(told.set).call(asked.wait).send(b"x")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(peer.play)
        await told.wait()
        assert peer.next_step == "step 2 of 3, call(Event.wait)"
        asked.set()
        assert await peer.stream.receive_some() == b"x"

    def broken() -> None:
        raise trio.BrokenResourceError("of the user's own")

    for peer in (ScriptedPeer().call(broken), ScriptedPeer().repeat(Script().call(broken), 2)):
        with pytest.raises(trio.BrokenResourceError, match="own") as caught:
            await peer.play()
        assert "while a script was at step 1 of 1" in caught.value.__notes__[-1]
        with pytest.raises(trio.BrokenResourceError, match="peer has reset"):
            await peer.stream.receive_some()


# ---------------------------------------------------------------------------------------------------- ending


@every_plain_way
async def test_after_a_half_close_it_goes_on_receiving(way: str) -> None:
    async with scene(way, Script().send_eof().expect(b"late")) as played, trio.open_nursery() as nursery:
        nursery.start_soon(played.peer.play)
        assert await played.stream.receive_some() == b""
        await played.stream.send_all(b"late")


@pytest.mark.parametrize("way", [TLS, TLS_IN_MEMORY])
async def test_tls_cannot_be_half_closed(way: str) -> None:
    async with scene(way, Script().send_eof()) as played:
        with pytest.raises(TypeError, match="SSLStream cannot be half-closed"):
            await played.peer.play()


@every_way
async def test_what_was_sent_before_a_close_arrives(way: str) -> None:
    async with scene(way, Script().send(b"all").close()) as played:
        await played.peer.play()
        assert await all_from(played.stream) == b"all"


@pytest.mark.parametrize("way", [TLS, TLS_IN_MEMORY])
async def test_a_cut_is_an_end_that_tls_has_not_announced(way: str) -> None:
    async with scene(way, Script().send(b"half").cut()) as played:
        await played.peer.play()
        assert await played.stream.receive_some() == b"half"
        with pytest.raises(trio.BrokenResourceError):
            await played.stream.receive_some()


@every_plain_way
async def test_a_cut_without_tls_is_a_close(way: str) -> None:
    async with scene(way, Script().send(b"half").cut()) as played:
        await played.peer.play()
        assert await all_from(played.stream) == b"half"


@pytest.mark.parametrize("way", ["memory", TCP, TLS, TLS_IN_MEMORY])
async def test_a_reset_is_a_failure_for_the_other_side(way: str) -> None:
    async with scene(way, Script().send(b"lost").reset()) as played:
        await played.peer.play()
        with pytest.raises(trio.BrokenResourceError):
            while await played.stream.receive_some():  # Linux gives what came before the RST, others do not
                pass


@pytest.mark.interop
async def test_a_unix_socket_knows_no_reset_and_is_closed() -> None:
    async with scene("unix", Script().reset()) as played:
        await played.peer.play()
        assert await played.stream.receive_some() == b""


async def test_a_stream_without_a_reset_is_closed_by_force() -> None:
    ours, theirs = trio.testing.lockstep_stream_pair()
    await ScriptedPeer(over=ours).reset().play()
    assert await theirs.receive_some() == b""
    with pytest.raises(trio.ClosedResourceError):
        await ours.send_all(b"x")


# ----------------------------------------------------------------------------------------------- repetitions


@every_plain_way
async def test_a_script_is_repeated_so_often(way: str) -> None:
    turn = Script().expect(b"ping").send(b"pong")
    script = Script().repeat(turn, 3).expect_end()
    async with scene(way, script) as played, trio.open_nursery() as nursery:
        nursery.start_soon(played.peer.play)
        for _ in range(3):
            await played.stream.send_all(b"ping")
            assert await played.stream.receive_some() == b"pong"
        await played.stream.send_eof()


@every_plain_way
async def test_a_script_is_repeated_until_the_other_side_is_gone(way: str) -> None:
    async with scene(way, Script().repeat(Script().expect(b"ping")).send(b"bye")) as played:
        await played.stream.send_all(b"pingpingping")
        await played.stream.send_eof()
        await played.peer.play()
        assert await played.stream.receive_some() == b"bye"


async def test_a_repetition_that_fails_says_in_which_turn() -> None:
    peer = ScriptedPeer().send(b"hello").repeat(Script().expect(b"a").expect(b"b"))
    await peer.stream.send_all(b"ababax")
    with pytest.raises(AssertionError) as caught:
        await peer.play()
    assert str(caught.value) == (
        "step 2 of 2, repeat(2 steps, until the end):\n"
        "turn 3, step 2 of 2, expect(b'b'):\n  expected: b'b'\n  got:      b'x'"
    )
    peer = ScriptedPeer().repeat(Script().expect(b"a").expect(b"b"))
    await peer.stream.send_all(b"a")
    await peer.stream.aclose()
    with pytest.raises(AssertionError, match="turn 1, step 2 of 2"):
        await peer.play()


# --------------------------------------------------------------------------------------------------- scripts


def test_a_script_never_changes() -> None:
    hello = Script().send(b"hello")
    longer = hello.then(Script().expect(b"you").close())
    assert repr(hello) == "<Script: send(b'hello')>"
    assert repr(longer) == "<Script: send(b'hello'); expect(b'you'); close()>"
    assert repr(Script()) == "<Script: nothing>"


async def test_a_peer_may_go_beyond_the_script_that_it_was_given() -> None:
    hello = Script().send(b"hello")
    peer = ScriptedPeer(memory_pair(), script=hello).send(b", you").close()
    await peer.play()
    assert await all_from(peer.stream) == b"hello, you"
    assert len(hello.steps) == 1


async def test_a_peer_that_was_given_one_end_knows_no_other() -> None:
    own, other = memory_pair()
    with pytest.raises(ValueError, match="knows no other"):
        _ = ScriptedPeer(over=own).stream
    with pytest.raises(TypeError, match="not both"):
        ScriptedPeer((own, other), over=own)


async def test_a_script_is_played_by_one_task_at_a_time() -> None:
    peer = ScriptedPeer().expect(b"x")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(peer.play)
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(trio.BusyResourceError):
            await peer.play()
        await peer.stream.send_all(b"x")
    assert peer.finished
    with trio.testing.assert_checkpoints():
        await peer.play()


@pytest.mark.parametrize(
    "step",
    [
        lambda: Script().expect_until(b""),
        lambda: Script().send_slowly(b"x", each=0, seconds=1),
        lambda: Script().send_slowly(b"x", each=1, seconds=-1),
        lambda: Script().wait(float("nan")),
        lambda: Script().expect_nothing(float("inf")),
        lambda: Script().wait_until_quiet(-1),
        lambda: Script().repeat(Script()),
        lambda: Script().repeat(Script().close(), 0),
    ],
)
def test_a_step_that_cannot_be_done_is_refused_when_it_is_written(step: object) -> None:
    assert callable(step)
    with pytest.raises(ValueError, match=r"got|empty|without steps"):
        step()
