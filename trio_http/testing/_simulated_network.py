"""A network in memory, between programs under one clock: what the weather lets through, and when."""

from __future__ import annotations

import errno
import random
from collections import Counter
from collections.abc import Callable, Sequence

import trio

from ._simulated_connection import SimulatedConnection
from ._simulated_listener import SimulatedListener
from ._simulated_stream import SimulatedStream
from ._simulated_trace import TraceEntry, trace_digest
from ._simulated_way import Way
from ._simulated_weather import CLEAR, ConnectionFacts, Side, Weather, check_weather, draw, generator


class SimulatedNetwork(trio.abc.AsyncResource):
    """Connections in memory, with latency, splits, stalls, resets and half-closes, by script or by chance.

    ::

        async with SimulatedNetwork(seed=7, weather=STORM) as network:
            listener = network.listen("example.org", 80)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(trio_http.serve_listeners, app, [listener])
                async with trio_http.Client(dial=network.dial) as client:
                    ...

    Use it under `trio.testing.MockClock`, with its autojump: what takes time then takes none. It has no
    tasks of its own. The same seed gives each connection the same weather, whatever the others do: what is
    drawn depends on the seed, the number of the dial and the direction, and on the pieces that were sent
    there. That a whole run is the same needs a repeatable scheduler besides: see `simulate`.

    Args:
      seed: of all that is drawn here. A generator: the seed is drawn from it.
      weather: of every connection, or a function that is asked for each dial.
      buffer_bytes: how many bytes may be on their way in each direction of a connection, at least 1. Its
        default is of the size of a kernel's buffers.

    Attributes:
      connections: all that were made, in the order of time.
      trace: what has happened, in the order of time.
      weather: as given; may be set, for the dials from then on.
    """

    def __init__(
        self,
        *,
        seed: int | random.Random = 0,
        weather: Weather | Callable[[ConnectionFacts], Weather] = CLEAR,
        buffer_bytes: int = 64 * 1024,
    ) -> None:
        check_weather(weather)
        if buffer_bytes < 1:
            raise ValueError(f"buffer_bytes must be at least 1, got {buffer_bytes}")
        self.weather = weather
        self.trace: list[TraceEntry] = []
        self._seed = seed.getrandbits(64) if isinstance(seed, random.Random) else seed
        self._buffer_bytes = buffer_bytes
        self._connections: list[SimulatedConnection] = []
        self._streams: list[SimulatedStream] = []  # in pairs, of those connections that may be open
        self._listeners: dict[tuple[str, int], SimulatedListener] = {}
        self._crowd = 64  # of streams; with more, those that are closed are let go of
        self._dials = 0
        self._closed = False

    def __repr__(self) -> str:
        still = sum(connection.open for connection in self._connections)
        return f"<{type(self).__name__}, {len(self._connections)} connections, {still} of them open>"

    @property
    def connections(self) -> Sequence[SimulatedConnection]:
        return tuple(self._connections)

    @property
    def trace_digest(self) -> str:
        """32 hex digits for all that has happened: equal in two runs that were the same."""
        return trace_digest(self.trace)

    @property
    def events(self) -> Counter[str]:
        """How often each kind of entry is in the trace."""
        return Counter(entry.event for entry in self.trace)

    def left_open(self) -> list[str]:
        """Return one line for each stream and listener that the program has yet to close."""
        listening = [repr(listener) for listener in self._listeners.values() if not listener.closed]
        return listening + [repr(stream) for stream in self._streams if not stream.closed]

    def listen(self, host: str, port: int, *, backlog: int = 128) -> SimulatedListener:
        """Listen on a host and port; nothing is looked up, and case does not matter.

        Args:
          host, port: what is dialled.
          backlog: how many connections may wait to be accepted, at least 1; a dial beyond that waits. Its
            default is the kernel's of many systems.

        Raises:
          ValueError: ``host`` is a URL, or ``backlog`` less than 1.
          OSError: somebody listens there already.
          trio.ClosedResourceError: the network was closed.
        """
        if backlog < 1:
            raise ValueError(f"backlog must be at least 1, got {backlog}")
        if self._closed:
            raise trio.ClosedResourceError("this network was closed")
        if "/" in host:
            raise ValueError(f"a host is a name or an address, as a dial has it, and no URL; got {host!r}")
        place = (host.lower(), port)
        if place in self._listeners and not self._listeners[place].closed:
            raise OSError(errno.EADDRINUSE, f"somebody listens on {host}:{port} already")
        listener = self._listeners[place] = SimulatedListener(host, port, backlog, self._accepted)
        return listener

    async def dial(self, host: str, port: int, scheme: str = "http") -> SimulatedStream:
        """Connect to a listener of this network. It fits `Client`'s ``dial``.

        The scheme changes nothing here: TLS is the business of whoever dials.

        Raises:
          ConnectionRefusedError: nobody listens there, or the weather says so.
          trio.ClosedResourceError: the network was closed.

        Cancellation: no connection is made.
        """
        if self._closed:
            raise trio.ClosedResourceError("this network was closed")
        number, self._dials = self._dials, self._dials + 1
        luck = generator(self._seed, number, "dial")
        now = trio.current_time()
        facts = ConnectionFacts(number=number, host=host, port=port, scheme=scheme, time=now, random=luck)
        weather = self.weather if isinstance(self.weather, Weather) else self.weather(facts)
        if not isinstance(weather, Weather):
            raise TypeError(f"the function given as weather must return a Weather, and returned {weather!r}")
        there, back = (self._way(side, number, weather) for side in ("client", "server"))
        if weather.dial_seconds is None:
            seconds = there.latency + back.latency
        else:
            seconds = draw(luck, weather.dial_seconds)
        self._note(number, "client", "dial", seconds)
        if luck.random() < weather.black_hole:
            self._note(number, "", "black hole", 0)
            await trio.sleep_forever()
        refused = luck.random() < weather.dial_refused
        await trio.sleep(seconds)
        listener = self._listeners.get((host.lower(), port))
        if listener is not None and not refused:
            await listener._wait_for_room()
        if listener is None or refused or listener.closed:
            self._note(number, "server", "refuse", 0)
            why = "by the weather" if refused else "nobody listens there"
            raise ConnectionRefusedError(
                errno.ECONNREFUSED, f"the connection to {host}:{port} was refused: {why}"
            )
        # No checkpoint from here: the connection belongs to the listener and to the caller.
        connection = SimulatedConnection(facts, weather, (there, back), self.trace)
        ours, theirs = SimulatedStream(connection, "client"), SimulatedStream(connection, "server")
        self._connections.append(connection)
        self._remember(ours, theirs)
        listener._arrive(theirs)
        return ours

    def close(self) -> None:
        """Close all listeners, and reset all connections that are open. Idempotent.

        What was left open until then tells `left_open`, to whoever asks it first.
        """
        self._closed = True
        for listener in self._listeners.values():
            listener.close()
        for stream in self._streams:
            stream.reset()

    async def aclose(self) -> None:
        """Close as `trio.abc.AsyncResource` says.

        Cancellation: it is closed all the same.
        """
        self.close()
        await trio.lowlevel.checkpoint()

    def _way(self, side: Side, number: int, weather: Weather) -> Way:
        return Way(side, number, weather, self._seed, self._buffer_bytes, self.trace)

    def _note(self, number: int, side: str, event: str, amount: float) -> None:
        now = trio.current_time()
        self.trace.append(TraceEntry(now, number, side, event, amount, now))

    def _accepted(self, stream: SimulatedStream) -> None:
        self._note(stream.connection.number, "server", "accept", 0)

    def _remember(self, *streams: SimulatedStream) -> None:
        """Keep the streams, and now and then let go of those that are closed."""
        if len(self._streams) >= self._crowd:
            self._streams = [stream for stream in self._streams if not stream.closed]
            self._crowd = max(64, 2 * len(self._streams))
        self._streams.extend(streams)
