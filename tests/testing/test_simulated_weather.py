"""What each kind of weather does to a connection, to the second and to the byte."""

from __future__ import annotations

import math
from collections import Counter

import pytest
import trio
from trio.testing import MockClock

from trio_http.testing import (
    CLEAR,
    LOSSY_MOBILE,
    STORM,
    ConnectionFacts,
    Mishap,
    SimulatedNetwork,
    SimulatedStream,
    Weather,
)


class Pair:
    """Both ends of one connection, and what is received at the server's end, and when."""

    def __init__(self, network: SimulatedNetwork, client: SimulatedStream, server: SimulatedStream) -> None:
        self.network = network
        self.client = client
        self.server = server
        self.opened = trio.current_time()

    @classmethod
    async def make(cls, weather: Weather, seed: int = 0) -> Pair:
        network = SimulatedNetwork(weather=weather, seed=seed)
        listener = network.listen("a", 80)
        client = await network.dial("a", 80)
        return cls(network, client, await listener.accept())

    async def received(self, patience: float = 1000) -> list[tuple[float, bytes | str]]:
        """Everything that arrives at the server until the end, a reset, or for so long nothing."""
        found: list[tuple[float, bytes | str]] = []
        while True:
            with trio.move_on_after(patience):
                try:
                    data = await self.server.receive_some()
                except trio.BrokenResourceError:
                    data = None
                found.append(
                    (round(trio.current_time() - self.opened, 6), data if data is not None else "reset")
                )
                if not data:
                    return found
                continue
            return [*found, (math.inf, "nothing")]


async def test_in_clear_weather_all_is_there_at_once_and_in_one_piece(autojump_clock: MockClock) -> None:
    pair = await Pair.make(CLEAR)
    await pair.client.send_all(b"one")
    await pair.client.send_all(b"two")
    await pair.client.aclose()
    assert await pair.received() == [(0, b"onetwo"), (0, b"")]
    assert trio.current_time() == 0


async def test_latency_is_drawn_once_for_each_direction(autojump_clock: MockClock) -> None:
    pair = await Pair.make(Weather(latency=(1, 2), server=Weather(latency=(5, 6))))
    dialled = trio.current_time()
    assert 6 <= dialled <= 8  # there and back
    times = []
    for _ in range(3):
        before = trio.current_time()
        await pair.client.send_all(b"x")
        assert await pair.server.receive_some() == b"x"
        there = trio.current_time() - before
        await pair.server.send_all(b"y")
        assert await pair.client.receive_some() == b"y"
        times.append((round(there, 6), round(trio.current_time() - before - there, 6)))
    assert len(set(times)) == 1
    assert 1 <= times[0][0] <= 2
    assert 5 <= times[0][1] <= 6
    assert sum(times[0]) == pytest.approx(dialled)


async def test_jitter_differs_from_piece_to_piece_and_keeps_the_order(autojump_clock: MockClock) -> None:
    pair = await Pair.make(Weather(jitter=(0, 10)))

    async def send() -> None:
        for number in range(50):
            await pair.client.send_all(bytes([number]))
            await trio.sleep(2)
        await pair.client.aclose()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(send)
        received = await pair.received()
    assert b"".join(data for _, data in received if isinstance(data, bytes)) == bytes(range(50))
    late = {round(at % 2, 3) for at, _ in received}
    assert len(late) > 10
    assert any(len(data) > 1 for _, data in received)  # some have been overtaken, but for the order


async def test_a_line_has_its_rate(autojump_clock: MockClock) -> None:
    pair = await Pair.make(Weather(bytes_per_second=100, latency=1, dial_seconds=0))
    await pair.client.send_all(bytes(200))
    await pair.client.send_all(bytes(100))
    assert await pair.received(patience=10) == [(3, bytes(200)), (4, bytes(100)), (math.inf, "nothing")]


async def test_a_split_piece_is_not_received_in_one_call(autojump_clock: MockClock) -> None:
    pair = await Pair.make(Weather(split=1, split_bytes=3))
    await pair.client.send_all(b"abcdefgh")
    await pair.client.send_all(b"")
    await pair.client.aclose()
    assert await pair.received() == [(0, b"abc"), (0, b"def"), (0, b"gh"), (0, b"")]
    assert pair.network.events["split"] == 1


async def test_a_large_piece_is_split_a_bounded_number_of_times(autojump_clock: MockClock) -> None:
    pair = await Pair.make(Weather(split=1, split_bytes=1))
    await pair.client.send_all(bytes(60_000))
    await pair.client.aclose()
    sizes = [len(data) for _, data in await pair.received() if isinstance(data, bytes)]
    assert sizes == [1] * 16 + [60_000 - 16, 0]


async def test_a_stall_makes_late_what_follows_it_too(autojump_clock: MockClock) -> None:
    pair = await Pair.make(Weather(script=(Mishap(way="client", at_byte=3, stall=5),), latency=1))
    await pair.client.send_all(b"abcdef")
    await pair.client.aclose()
    assert await pair.received() == [(1, b"abc"), (6, b"def"), (6, b"")]


async def test_a_stall_by_chance(autojump_clock: MockClock) -> None:
    pair = await Pair.make(Weather(stall=1, stall_seconds=(7, 7)))
    for letter in (b"a", b"b"):
        await pair.client.send_all(letter)
    assert await pair.received(patience=10) == [(7, b"a"), (14, b"b"), (math.inf, "nothing")]


@pytest.mark.parametrize(
    ("then", "end"),
    [("reset", (4, "reset")), ("cut", (4, b"")), ("silence", (math.inf, "nothing"))],
)
async def test_a_script_by_bytes_is_kept_to_the_byte(
    then: str, end: tuple[float, bytes | str], autojump_clock: MockClock
) -> None:
    mishap = Mishap(way="client", at_byte=4, stall=3, then=then)  # type: ignore[arg-type]
    pair = await Pair.make(Weather(latency=1, script=(mishap,)))
    await pair.client.send_all(b"abc")
    await pair.client.send_all(b"defgh")
    assert await pair.received() == [(1, b"abcd"), end]
    assert pair.client.end.broken == (then == "reset")
    if then != "reset":  # nobody has told the sender
        await pair.client.send_all(b"lost")
        assert pair.network.trace[-1][3:5] == ("lose", 4)


@pytest.mark.parametrize(
    ("then", "end"), [("reset", (5, "reset")), ("cut", (5, b"")), ("silence", (math.inf, "nothing"))]
)
async def test_a_script_by_time_is_kept_to_the_second(
    then: str, end: tuple[float, bytes | str], autojump_clock: MockClock
) -> None:
    mishap = Mishap(way="client", at_second=3, stall=2, then=then)  # type: ignore[arg-type]
    pair = await Pair.make(Weather(latency=1, dial_seconds=0, script=(mishap,)))

    async def send() -> None:
        for number in range(8):
            try:
                await pair.client.send_all(b"%d" % number)
            except trio.BrokenResourceError:
                assert then == "reset"
                return
            await trio.sleep(1)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(send)
        assert await pair.received() == [(1, b"0"), (2, b"1"), end]


async def test_what_falls_into_a_stall_by_time_arrives_at_its_end(autojump_clock: MockClock) -> None:
    pair = await Pair.make(Weather(script=(Mishap(way="client", at_second=2, stall=5),)))
    await trio.sleep(1)
    await pair.client.send_all(b"a")
    await trio.sleep(3)
    await pair.client.send_all(b"b")
    await trio.sleep(4)
    await pair.client.send_all(b"c")
    await pair.client.send_eof()
    # All of it was sent before the receiver has looked.
    assert [data for _, data in await pair.received()] == [b"abc", b""]
    assert [entry.at for entry in pair.network.trace if entry.event == "send"] == [1, 7, 8]


async def test_a_script_at_byte_0_comes_before_anything_is_sent(autojump_clock: MockClock) -> None:
    script = (
        Mishap(way="server", at_byte=0, then="cut"),
        Mishap(way="client", at_byte=0, stall=9, then="reset"),
    )
    pair = await Pair.make(Weather(script=script))
    assert await pair.client.receive_some() == b""
    assert await pair.received() == [(9, "reset")]


@pytest.mark.parametrize(
    ("weather", "end"),
    [
        (Weather(latency=1, reset=1), (1, "reset")),
        (Weather(latency=1, cut=1), (1, b"")),
        (Weather(latency=1, silence=1), (math.inf, "nothing")),
        (Weather(latency=1, stall=1, stall_seconds=math.inf), (math.inf, "nothing")),
    ],
)
async def test_a_piece_that_comes_to_no_good(
    weather: Weather, end: tuple[float, bytes | str], autojump_clock: MockClock
) -> None:
    pair = await Pair.make(weather)
    await pair.client.send_all(b"abc")
    await pair.client.send_all(b"def")
    assert await pair.received() == [end]


async def test_after_an_ending_the_rest_of_the_script_is_not_played(autojump_clock: MockClock) -> None:
    script = (
        Mishap(way="client", at_byte=3, then="silence"),
        Mishap(way="client", at_byte=5, stall=2, then="reset"),
    )
    pair = await Pair.make(Weather(script=script))
    await pair.client.send_all(b"0123456789")
    assert await pair.received() == [(0, b"012"), (math.inf, "nothing")]
    events = pair.network.events
    assert (events["silence"], events["stall"], events["reset"], events["lose"]) == (1, 0, 0, 2)


async def test_of_two_endings_by_time_the_earlier_one_counts(autojump_clock: MockClock) -> None:
    script = (
        Mishap(way="client", at_second=1, stall=1, then="reset"),
        Mishap(way="client", at_second=1.5, stall=9, then="reset"),
    )
    pair = await Pair.make(Weather(script=script))
    assert await pair.received() == [(2, "reset")]


async def test_an_ending_by_bytes_waits_for_the_bytes_before_it(autojump_clock: MockClock) -> None:
    script = (Mishap(way="client", at_byte=3, then="cut"),)
    pair = await Pair.make(Weather(bytes_per_second=1, script=script))
    await pair.client.send_all(b"abcdef")
    assert await pair.received() == [(3, b"abc"), (3, b"")]


async def test_bytes_in_a_stall_for_ever_are_lost(autojump_clock: MockClock) -> None:
    pair = await Pair.make(Weather(script=(Mishap(way="client", at_second=1, stall=math.inf),), silence=1))
    await trio.sleep(2)
    await pair.client.send_all(b"abc")
    await pair.client.send_all(b"def")
    assert [entry[3:5] for entry in pair.network.trace if entry.side == "client" and entry.time == 2] == [
        ("lose", 3),
        ("lose", 3),
    ]


async def test_a_cut_way_lets_no_reset_through(autojump_clock: MockClock) -> None:
    pair = await Pair.make(Weather(latency=1, script=(Mishap(way="client", at_byte=0, then="silence"),)))
    pair.client.reset()
    assert await pair.received() == [(math.inf, "nothing")]


async def test_the_fate_of_one_connection_does_not_depend_on_the_others(autojump_clock: MockClock) -> None:
    fates = []
    for busy in (False, True):
        network = SimulatedNetwork(weather=LOSSY_MOBILE, seed=5)
        network.weather = Weather(latency=(0, 1), jitter=(0, 1), split=0.5, stall=0.2, stall_seconds=(0, 9))
        listener = network.listen("a", 80)
        first = await network.dial("a", 80)
        second = await network.dial("a", 80)
        start = trio.current_time()
        for _ in range(20):
            if busy:
                await first.send_all(bytes(100))
            await second.send_all(bytes(100))
        fates.append(
            [
                (round(entry.at - start, 6), entry.amount)
                for entry in network.trace
                if entry.connection == 1 and entry.event == "send"
            ]
        )
        listener.close()
    assert fates[0] == fates[1]


async def test_the_weather_can_be_asked_for_by_what_is_known_of_the_dial(autojump_clock: MockClock) -> None:
    asked: list[ConnectionFacts] = []

    def weather(facts: ConnectionFacts) -> Weather:
        asked.append(facts)
        return Weather(dial_seconds=facts.random.choice([3, 3])) if facts.host == "far" else CLEAR

    network = SimulatedNetwork(weather=weather)
    for host in ("near", "far"):
        network.listen(host, 80)
        await network.dial(host, 80, "https")
    assert trio.current_time() == 3
    assert [(facts.number, facts.host, facts.scheme) for facts in asked] == [
        (0, "near", "https"),
        (1, "far", "https"),
    ]
    assert network.connections[0].weather == CLEAR


@pytest.mark.parametrize("weather", [LOSSY_MOBILE, STORM], ids=["mobile", "storm"])
async def test_the_ready_made_weathers_have_all_that_they_promise(
    weather: Weather, autojump_clock: MockClock
) -> None:
    events: Counter[str] = Counter()
    for seed in range(60):
        network = SimulatedNetwork(weather=weather, seed=seed)
        listener = network.listen("a", 80)
        with trio.move_on_after(500):
            try:
                client = await network.dial("a", 80)
                server = await listener.accept()
                for _ in range(20):
                    await client.send_all(bytes(2000))
                    await server.receive_some()
            except (OSError, trio.BrokenResourceError):
                pass
        events += network.events
        network.close()
    expected = {"refuse", "black hole", "split", "stall", "reset", "silence"}
    expected |= {"cut"} if weather.cut else set()
    assert expected <= set(events), events


@pytest.mark.parametrize(
    "arguments",
    [
        {"latency": -1}, {"latency": (2, 1)}, {"latency": math.inf}, {"jitter": (0, math.inf)},
        {"bytes_per_second": 0}, {"split": 1.1}, {"split_bytes": 0}, {"split_bytes": (3, 2)},
        {"stall": -0.1}, {"stall_seconds": (1, math.inf)}, {"stall_seconds": math.nan},
        {"reset": 2}, {"cut": 2}, {"silence": 2}, {"dial_refused": 2}, {"black_hole": 2},
        {"dial_seconds": -1}, {"server": STORM}, {"server": Weather(server=CLEAR)},
        {"server": Weather(script=[Mishap(way="server", at_byte=0)])},
    ],
    ids=str,
)  # fmt: skip
def test_a_weather_that_cannot_be_is_refused(arguments: dict[str, object]) -> None:
    with pytest.raises(ValueError):
        Weather(**arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "arguments",
    [
        {"way": "up", "at_byte": 1}, {"way": "client"}, {"way": "client", "at_byte": 1, "at_second": 1},
        {"way": "client", "at_byte": -1}, {"way": "client", "at_second": math.inf},
        {"way": "client", "at_byte": 1, "stall": -1}, {"way": "client", "at_byte": 1, "then": "rain"},
    ],
    ids=str,
)  # fmt: skip
def test_a_mishap_that_cannot_be_is_refused(arguments: dict[str, object]) -> None:
    with pytest.raises(ValueError):
        Mishap(**arguments)  # type: ignore[arg-type]
