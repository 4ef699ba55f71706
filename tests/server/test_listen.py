"""Listening on Unix sockets and on sockets that were inherited, with real files and real processes."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import stat
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import trio
import trio.testing

from trio_http.server._listen import (
    close_unix_listener,
    inherited_listener,
    open_unix_listener,
    systemd_listeners,
    url_of,
)

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder with a short name: the address of a Unix socket has 108 bytes at most."""
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


def dead_socket(path: Path) -> None:
    """Leave the file that a killed server leaves."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(path))


def connects(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as client:
        return client.connect_ex(str(path)) == 0


# ----------------------------------------------------------------------------------------------- Unix sockets


async def test_a_unix_listener_accepts_where_it_says(folder: Path) -> None:
    listener = await open_unix_listener(folder / "s")
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(listener.socket.getsockname())
        async with await listener.accept() as stream:
            await stream.send_all(b"here")
        assert client.recv(10) == b"here"
    close_unix_listener(listener)


async def test_a_relative_path_is_deleted_where_it_was_made(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    listener = await open_unix_listener("s")
    assert url_of(listener) == f"http+unix://{str(folder / 's').replace('/', '%2F')}"
    monkeypatch.chdir("/")
    close_unix_listener(listener)
    assert os.listdir(folder) == []


async def test_the_file_of_a_dead_server_is_replaced(folder: Path) -> None:
    dead_socket(folder / "s")
    assert not connects(folder / "s")
    listener = await open_unix_listener(folder / "s")
    assert connects(folder / "s")
    close_unix_listener(listener)


async def test_the_file_of_a_living_server_is_left_to_it(folder: Path) -> None:
    living = await open_unix_listener(folder / "s")
    with pytest.raises(OSError) as info:
        await open_unix_listener(folder / "s")
    assert info.value.errno == errno.EADDRINUSE
    assert info.value.filename == str(folder / "s")
    assert connects(folder / "s")
    close_unix_listener(living)


async def test_a_living_server_whose_backlog_is_full_is_not_taken_for_dead(folder: Path) -> None:
    with socket.socket(socket.AF_UNIX) as living, socket.socket(socket.AF_UNIX) as client:
        living.bind(str(folder / "s"))
        living.listen(0)
        client.connect(str(folder / "s"))  # Linux lets one more wait than it was told
        with pytest.raises(OSError, match="a server listens there") as info:
            await open_unix_listener(folder / "s")
        assert info.value.errno == errno.EADDRINUSE
    assert (folder / "s").exists()


async def test_a_datagram_socket_is_not_taken_for_a_dead_server(folder: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as living:
        living.bind(str(folder / "s"))
        with pytest.raises(OSError) as info:
            await open_unix_listener(folder / "s")
        assert info.value.errno == errno.EADDRINUSE
        assert (folder / "s").exists()


@pytest.mark.parametrize("kind", ["file", "folder", "link"])
async def test_what_is_no_socket_is_never_deleted(kind: str, folder: Path) -> None:
    path = folder / "s"
    if kind == "file":
        path.write_text("precious")
    elif kind == "folder":
        path.mkdir()
    else:
        dead_socket(folder / "dead")
        path.symlink_to(folder / "dead")
    before = os.lstat(path)
    with pytest.raises(OSError, match="no socket") as info:
        await open_unix_listener(path)
    assert info.value.errno == errno.EADDRINUSE
    assert os.lstat(path) == before


async def test_a_folder_that_is_not_there_is_told(folder: Path) -> None:
    with pytest.raises(FileNotFoundError):
        await open_unix_listener(folder / "no" / "s")


async def test_a_path_that_is_too_long_is_told_and_leaves_nothing(folder: Path) -> None:
    with pytest.raises(OSError, match="too long"):
        await open_unix_listener(folder / ("s" * 108))
    assert os.listdir(folder) == []


@pytest.mark.parametrize("mode", [0o600, 0o660, 0o666])
async def test_the_mode_is_exact_whatever_the_umask_and_set_before_anybody_can_connect(
    mode: int, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_listen: list[int] = []
    listen = socket.socket.listen

    def watched_listen(self: socket.socket, backlog: int) -> None:
        at_listen.append(stat.S_IMODE(os.stat(folder / "s").st_mode))
        assert not connects(folder / "s")
        listen(self, backlog)

    monkeypatch.setattr(socket.socket, "listen", watched_listen)
    umask = os.umask(0o027)
    try:
        listener = await open_unix_listener(folder / "s", mode=mode)
        assert os.umask(0o027) == 0o027
    finally:
        os.umask(umask)
    assert at_listen == [mode]
    assert connects(folder / "s")
    close_unix_listener(listener)


async def test_the_backlog_is_what_was_asked_for(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    monkeypatch.setattr(socket.socket, "listen", lambda self, backlog: asked.append(backlog))
    for backlog in (None, 7, 1 << 20):
        with pytest.raises(ValueError, match="listening"):  # trio's, since nobody listened
            await open_unix_listener(folder / "s", backlog=backlog)
        assert not (folder / "s").exists()
    assert asked == [0xFFFF, 7, 0xFFFF]


async def test_who_opens_waits_while_another_decides_about_the_same_folder(
    folder: Path, autojump_clock: trio.testing.MockClock
) -> None:
    dead_socket(folder / "s")
    before = os.lstat(folder / "s")
    listeners: list[trio.SocketListener] = []

    async def open_it() -> None:
        listeners.append(await open_unix_listener(folder / "s"))

    other = os.open(folder, os.O_RDONLY)
    fcntl.flock(other, fcntl.LOCK_EX)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(open_it)
        await trio.sleep(60)
        assert listeners == []
        assert os.lstat(folder / "s") == before
        os.close(other)
    close_unix_listener(listeners[0])


async def test_a_cancelled_open_leaves_nothing(folder: Path, autojump_clock: trio.testing.MockClock) -> None:
    other = os.open(folder, os.O_RDONLY)
    fcntl.flock(other, fcntl.LOCK_EX)
    before = len(os.listdir("/proc/self/fd"))
    with trio.move_on_after(1) as scope:
        await open_unix_listener(folder / "s")
    assert scope.cancelled_caught
    assert len(os.listdir("/proc/self/fd")) == before
    assert os.listdir(folder) == []
    os.close(other)


def test_of_many_servers_that_find_the_same_dead_file_exactly_one_gets_the_address(folder: Path) -> None:
    dead_socket(folder / "s")
    program = textwrap.dedent(
        """
        import sys, trio
        from trio_http.server._listen import open_unix_listener
        sys.stdin.readline()  # all at once
        try:
            listener = trio.run(open_unix_listener, sys.argv[1])
            print("listens", flush=True)
            sys.stdin.readline()
        except OSError as exc:
            print(exc.errno, flush=True)
        """
    )
    servers = [
        subprocess.Popen(
            [sys.executable, "-c", program, str(folder / "s")],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT,
        )
        for _ in range(4)
    ]  # fmt: skip
    try:
        for server in servers:
            assert server.stdin is not None
            server.stdin.write("\n")
            server.stdin.flush()
        said = [server.stdout.readline().strip() for server in servers if server.stdout is not None]
        assert sorted(said) == [str(errno.EADDRINUSE)] * 3 + ["listens"]
        assert connects(folder / "s")
    finally:
        for server in servers:
            server.communicate("\n", timeout=30)


async def test_closing_deletes_the_file_and_twice_does_nothing_more(folder: Path) -> None:
    listener = await open_unix_listener(folder / "s")
    close_unix_listener(listener)
    assert os.listdir(folder) == []
    assert listener.socket.fileno() == -1
    successor = await open_unix_listener(folder / "s")
    close_unix_listener(listener)
    assert connects(folder / "s")
    close_unix_listener(successor)


async def test_closing_leaves_the_file_of_a_successor(folder: Path) -> None:
    listener = await open_unix_listener(folder / "s")
    os.unlink(folder / "s")
    successor = await open_unix_listener(folder / "s")
    close_unix_listener(listener)
    assert connects(folder / "s")
    close_unix_listener(successor)


async def test_closing_does_not_mind_that_the_file_or_its_folder_has_gone(folder: Path) -> None:
    (folder / "inner").mkdir()
    listener = await open_unix_listener(folder / "inner" / "s")
    os.unlink(folder / "inner" / "s")
    (folder / "inner").rmdir()
    close_unix_listener(listener)
    assert listener.socket.fileno() == -1


async def test_closing_does_not_wait_for_a_lock(folder: Path) -> None:
    listener = await open_unix_listener(folder / "s")
    other = os.open(folder, os.O_RDONLY)
    fcntl.flock(other, fcntl.LOCK_EX)
    close_unix_listener(listener)
    os.close(other)
    assert os.listdir(folder) == []


async def test_a_fork_does_not_delete_its_parents_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listener = await open_unix_listener(folder / "s")
    parent = os.getpid()
    # Not by a real fork, which may not be made of a process with threads.
    monkeypatch.setattr(os, "getpid", lambda: parent + 1)
    close_unix_listener(listener)
    assert listener.socket.fileno() == -1
    assert os.listdir(folder) == ["s"]


async def test_a_listener_that_was_not_opened_here_is_only_closed(folder: Path) -> None:
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(str(folder / "s"))
    sock.listen()
    listener = trio.SocketListener(trio.socket.from_stdlib_socket(sock))
    close_unix_listener(listener)
    assert listener.socket.fileno() == -1
    assert (folder / "s").exists()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has abstract names")
async def test_an_abstract_name_is_listened_on_and_needs_no_file() -> None:
    name = f"trio_http-test-{os.getpid()}"
    with pytest.raises(ValueError, match="mode"):
        await open_unix_listener(f"\0{name}", mode=0o600)
    listener = await open_unix_listener(f"\0{name}")
    assert url_of(listener) == f"http+unix://%00{name}"
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(f"\0{name}")
    close_unix_listener(listener)


# ------------------------------------------------------------------------------------------ inherited sockets


async def test_an_inherited_descriptor_is_used_itself_and_handed_down_no_further() -> None:
    sock = socket.create_server(("127.0.0.1", 0))
    address, fd = sock.getsockname(), sock.detach()
    os.set_inheritable(fd, True)
    listener = inherited_listener(fd)
    assert listener.socket.fileno() == fd
    assert not os.get_inheritable(fd)
    assert not os.get_blocking(fd)
    with socket.create_connection(address):
        await (await listener.accept()).aclose()
    listener.socket.close()
    with pytest.raises(OSError, match=str(fd)) as info:
        inherited_listener(fd)
    assert info.value.errno == errno.EBADF


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (lambda: socket.socket(), "does not listen"),
        (lambda: socket.socket(type=socket.SOCK_DGRAM), "SOCK_DGRAM"),
    ],
    ids=["not listening", "datagram"],
)
def test_a_descriptor_that_cannot_be_listened_on_is_left_as_it_was(
    make: Callable[[], socket.socket], complaint: str
) -> None:
    sock = make()
    os.set_inheritable(sock.fileno(), True)
    with pytest.raises(ValueError, match=complaint):
        inherited_listener(sock.fileno())
    assert os.get_inheritable(sock.fileno())
    assert sock.getblocking()
    sock.close()  # fails if somebody else has closed it


def test_a_descriptor_that_is_no_socket_is_told(tmp_path: Path) -> None:
    with open(tmp_path / "file", "w") as file, pytest.raises(OSError, match=str(file.fileno())) as info:
        inherited_listener(file.fileno())
    assert info.value.errno == errno.ENOTSOCK


# ---------------------------------------------------------------------------------------------- systemd's way

# What a manager of services does between fork and exec: the sockets become descriptors 3 and up, and
# LISTEN_PID tells the process that is to be. Then the program in the last argument is run.
MANAGER = """
import fcntl, os, sys
fds = [fcntl.fcntl(int(fd), fcntl.F_DUPFD_CLOEXEC, 100) for fd in sys.argv[1].split(",")]
for number, fd in enumerate(fds, 3):
    os.dup2(fd, number, inheritable=True)
os.environ.setdefault("LISTEN_PID", str(os.getpid()))
os.environ.setdefault("LISTEN_FDS", str(len(fds)))
os.execv(sys.executable, [sys.executable, "-c", sys.argv[2]])
"""

SERVICE = """
import os, sys, trio
from trio_http.server._listen import systemd_listeners
try:
    listeners = systemd_listeners({arguments})
except (RuntimeError, LookupError, ValueError) as exc:
    print(type(exc).__name__, exc)
else:
    print(*[listener.socket.getsockname()[1] for listener in listeners])
print([name for name in os.environ if name.startswith("LISTEN")])
print([os.get_inheritable(fd) for fd in (3, 4, 5)])
"""


@pytest.fixture
def ports() -> Iterator[list[socket.socket]]:
    """Three listening sockets."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(3)]
    yield sockets
    for sock in sockets:
        sock.close()


def activated(sockets: list[socket.socket], arguments: str = "", **variables: str) -> str:
    """What a service says that was started with these sockets, before it shows what it left behind."""
    fds = [sock.fileno() for sock in sockets]
    run = subprocess.run(
        [sys.executable, "-c", MANAGER, ",".join(map(str, fds)), SERVICE.format(arguments=arguments)],
        env={**os.environ, **variables}, pass_fds=fds, cwd=ROOT, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    said, left_in_environment, inheritable = run.stdout.splitlines()
    assert left_in_environment == "[]"
    assert inheritable == "[False, False, False]"
    return said


def numbers(*sockets: socket.socket) -> str:
    return " ".join(str(sock.getsockname()[1]) for sock in sockets)


def test_a_service_gets_all_its_sockets_in_the_order_of_its_units(ports: list[socket.socket]) -> None:
    assert activated(ports) == numbers(*ports)


def test_a_service_gets_the_sockets_it_asks_for_by_name(ports: list[socket.socket]) -> None:
    web, admin, more_web = ports
    names = "web:admin:web"
    assert activated(ports, "'admin'", LISTEN_FDNAMES=names) == numbers(admin)
    assert activated(ports, "['admin', 'web']", LISTEN_FDNAMES=names) == numbers(admin, web, more_web)
    assert activated(ports, "['web', 'web']", LISTEN_FDNAMES=names) == numbers(web, more_web)


def test_a_name_that_was_not_passed_is_told_with_those_that_were(ports: list[socket.socket]) -> None:
    said = activated(ports, "['wbe']", LISTEN_FDNAMES="web:admin:web")
    assert said == "LookupError no socket named 'wbe' was passed; there are: 'web', 'admin'"


def test_sockets_without_names_are_called_unknown(ports: list[socket.socket]) -> None:
    assert activated(ports, "'unknown'") == numbers(*ports)


def complaint(**variables: str) -> str:
    """What is said to a process with these variables, of which none is left."""
    environ = {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "3", "PATH": "here", **variables}
    with pytest.raises(RuntimeError) as info:
        systemd_listeners(environ=environ)
    assert environ == {"PATH": "here"}
    return str(info.value)


def test_sockets_for_another_process_are_not_taken() -> None:
    said = f"the sockets were passed to process 1 (LISTEN_PID), and this is {os.getpid()}: "
    assert complaint(LISTEN_PID="1").startswith(said)


@pytest.mark.parametrize("count", ["0", "-1", "three", "²", ""])
def test_a_count_that_is_none_is_told(count: str) -> None:
    assert complaint(LISTEN_FDS=count) == f"LISTEN_FDS must be a number of at least 1, not {count!r}"


def test_names_that_do_not_fit_the_count_are_told() -> None:
    said = complaint(LISTEN_FDNAMES="web:admin", LISTEN_PIDFDID="1")
    assert said == "LISTEN_FDS says 3 sockets, and LISTEN_FDNAMES names 2: 'web:admin'"


def test_a_passed_socket_that_does_not_listen_is_told_if_it_is_asked_for(ports: list[socket.socket]) -> None:
    with socket.socket() as idle:
        sockets = [ports[0], idle, ports[1]]
        assert activated(sockets) == "ValueError descriptor 4 is a socket that does not listen"
        assert activated(sockets, "'web'", LISTEN_FDNAMES="web:idle:web") == numbers(ports[0], ports[1])


@pytest.mark.parametrize(
    ("environ", "missing"),
    [({}, "LISTEN_PID"), ({"LISTEN_FDS": "1"}, "LISTEN_PID"), ({"LISTEN_PID": "1"}, "LISTEN_FDS")],
)
def test_a_program_that_was_not_activated_is_told_so(environ: dict[str, str], missing: str) -> None:
    environ["PATH"] = "here"
    with pytest.raises(RuntimeError, match=f"no sockets were passed: {missing}"):
        systemd_listeners(environ=environ)
    assert environ == {"PATH": "here"}


# ------------------------------------------------------------------------------------------------------- URLs


@pytest.mark.parametrize(
    ("family", "host", "shown"),
    [
        (socket.AF_INET, "127.0.0.1", "127.0.0.1"),
        (socket.AF_INET, "0.0.0.0", "127.0.0.1"),
        (socket.AF_INET6, "::1", "[::1]"),
        (socket.AF_INET6, "::", "[::1]"),
    ],
)
async def test_the_url_is_one_that_can_be_connected_to(
    family: socket.AddressFamily, host: str, shown: str
) -> None:
    try:
        sock = socket.create_server((host, 0), family=family)
    except OSError:
        if family is not socket.AF_INET6:
            raise
        pytest.skip("this machine has no IPv6")
    listener = trio.SocketListener(trio.socket.from_stdlib_socket(sock))
    port = sock.getsockname()[1]
    assert url_of(listener, "http") == f"http://{shown}:{port}"
    assert url_of(listener, "https") == f"https://{shown}:{port}"
    with socket.create_connection((shown.strip("[]"), port), timeout=5):
        pass
    listener.socket.close()


async def test_the_url_of_a_unix_socket_has_its_path_quoted(folder: Path) -> None:
    listener = await open_unix_listener(folder / "a b")
    quoted = str(folder / "a b").replace("/", "%2F").replace(" ", "%20")
    assert url_of(listener, "https") == f"https+unix://{quoted}"
    close_unix_listener(listener)
