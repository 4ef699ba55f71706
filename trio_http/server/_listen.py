"""Listeners other than TCP ports: Unix sockets, and sockets that whoever started us has made."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
import sys
import urllib.parse
import weakref
from collections.abc import Iterable, Iterator, MutableMapping
from typing import Final

import attrs
import trio

if sys.platform != "win32":
    import fcntl

#: The largest sensible backlog, in connections: some systems keep the number in 16 bits, and all cut it to
#: their own limit. Precedent: `trio.open_tcp_listeners`.
_MAX_BACKLOG: Final = 0xFFFF

#: Between attempts to get the lock on a directory, which others of our kind hold for microseconds. Arbitrary.
_LOCK_SECONDS: Final = 0.05

#: The first descriptor that is passed (SD_LISTEN_FDS_START, sd_listen_fds(3)).
_FIRST_PASSED: Final = 3

#: What a manager of services says about the descriptors that it passes (sd_listen_fds(3)).
_PASSING_VARIABLES: Final = ("LISTEN_PID", "LISTEN_PIDFDID", "LISTEN_FDS", "LISTEN_FDNAMES")


# Unix sockets
#
# The address of a Unix socket is a file, which outlives its server if that is killed. The next server has to
# replace it, and must not replace that of a living one. Whether somebody lives there is asked by connecting:
# a file that refuses has nobody behind it, or somebody who has not got as far as to listen. So that the
# latter is never taken for dead, and of two servers that find the same dead file the second does not delete
# the first one's new file, all of this is done under a lock. It is a lock on the *directory*, because a file
# for it would itself have to be deleted some day, by whom, while who looks? (A program that does not know the
# lock, started at the same address in the same microseconds, is not protected.)


@attrs.frozen
class _SocketFile:
    """The file that a listener was bound to.

    Attributes:
      path: absolute.
      identity: device and inode.
      process: who made it. A fork of us has the listener too, and the file is not its own.
    """

    path: str
    identity: tuple[int, int]
    process: int


#: The files of the listeners that were opened here. `trio.SocketListener` is final and cannot keep its own.
_FILES: Final[weakref.WeakKeyDictionary[trio.SocketListener, _SocketFile]] = weakref.WeakKeyDictionary()


async def open_unix_listener(
    path: str | os.PathLike[str], *, mode: int | None = None, backlog: int | None = None
) -> trio.SocketListener:
    """Listen on a Unix socket. A file that a dead server left behind is replaced.

    Args:
      path: of the file; about 100 bytes at most. Its directory has to exist, to be readable, and to be
        writable by nobody whom you do not trust. A path that begins with a NUL is a name in Linux's abstract
        namespace, which has no files.
      mode: permissions of the file, as in 0o660; who may write it may connect. It is set before anybody can.
        None for what the process's umask makes of 0o777.
      backlog: connections that may wait to be accepted; None for the largest sensible number.

    Returns:
      the listener, to be closed by `close_unix_listener`, which deletes the file.

    Raises:
      OSError: EADDRINUSE when a living server listens there, or when it cannot be told, or when the path is
        that of a file which is no socket (then it is in no case touched). Others as the system has them.
      ValueError: `mode` for an abstract name.

    Cancellation: nothing was made.
    """
    if not hasattr(socket, "AF_UNIX"):
        raise OSError(errno.EAFNOSUPPORT, "this system has no Unix sockets")
    address = os.fspath(path)
    backlog = _MAX_BACKLOG if backlog is None else min(backlog, _MAX_BACKLOG)
    await trio.lowlevel.checkpoint()
    if address.startswith("\0"):
        if mode is not None:
            raise ValueError("an abstract name has no file, and so no mode")
        return _listening(address, None, backlog)[0]
    address, directory = _with_directory(address)
    try:
        while not _lock(directory):  # noqa: ASYNC110 - the kernel's lock has no event
            await trio.sleep(_LOCK_SECONDS)
        # No checkpoint from here to the end, so that all of it happens or nothing.
        _remove_stale(address)
        listener, identity = _listening(address, mode, backlog)
        assert identity is not None
        _FILES[listener] = _SocketFile(address, identity, os.getpid())
        return listener
    finally:
        os.close(directory)  # and with it the lock


def close_unix_listener(listener: trio.SocketListener) -> None:
    """Close a listener, and delete its file if `open_unix_listener` made that.

    The file is deleted only if it is still the one that was made, and only by the process that made it. Any
    other listener is just closed, so that this can be used for all. Closing twice does nothing more.
    """
    file = _FILES.pop(listener, None)
    try:
        if file is not None and file.process == os.getpid():
            # First the file, then the socket: as long as the socket is open the inode lives, and its number
            # cannot be another's. What the listener's owner cannot help (a directory that has gone, or is no
            # longer writable) does not keep the socket open.
            with contextlib.suppress(OSError), _locked_if_possible(file.path):
                if _identity(os.lstat(file.path)) == file.identity:
                    os.unlink(file.path)
    finally:
        listener.socket.close()


def _listening(
    address: str, mode: int | None, backlog: int
) -> tuple[trio.SocketListener, tuple[int, int] | None]:
    """Return a listener at a free address, and the identity of its file, if it has one."""
    identity = None
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        sock.bind(address)
        if not address.startswith("\0"):
            identity = _identity(os.lstat(address))
            if mode is not None:
                # A bound socket refuses everybody until it listens. Not by umask, which is the whole
                # process's: another thread's new file would get it too.
                os.chmod(address, mode, follow_symlinks=os.chmod not in os.supports_follow_symlinks)
        sock.listen(backlog)
        return trio.SocketListener(trio.socket.from_stdlib_socket(sock)), identity
    except BaseException:
        if identity is not None:
            with contextlib.suppress(OSError):
                os.unlink(address)
        sock.close()
        raise


def _remove_stale(path: str) -> None:
    """Delete the socket that a dead server left.

    Raises:
      OSError: EADDRINUSE for anything else that is there.
    """
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode):
        raise OSError(errno.EADDRINUSE, "there is a file, and it is no socket", path)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        # A Unix socket connects at once or not at all.
        probe.setblocking(False)
        error = probe.connect_ex(path)
    if error not in (errno.ECONNREFUSED, errno.ENOENT):
        # EAGAIN: its backlog is full. EPROTOTYPE: it is a datagram socket's. EACCES: it cannot be told.
        why = "a server listens there" if error in (0, errno.EAGAIN) else os.strerror(error)
        raise OSError(errno.EADDRINUSE, f"the address is in use ({why})", path)
    with contextlib.suppress(FileNotFoundError):
        if _identity(os.lstat(path)) == _identity(found):
            os.unlink(path)


def _with_directory(path: str) -> tuple[str, int]:
    """Return a path made absolute, and its directory, open."""
    path = os.path.abspath(path)
    return path, os.open(os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)


def _identity(found: os.stat_result) -> tuple[int, int]:
    return found.st_dev, found.st_ino


def _lock(directory: int) -> bool:
    """Lock a directory against others of our kind, until its descriptor is closed; False if it is locked."""
    if sys.platform != "win32":
        try:
            fcntl.flock(directory, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


@contextlib.contextmanager
def _locked_if_possible(path: str) -> Iterator[None]:
    """Lock a file's directory while the block runs, unless it is locked already: who closes cannot wait."""
    _, directory = _with_directory(path)
    try:
        _lock(directory)
        yield
    finally:
        os.close(directory)


# Inherited sockets


def inherited_listener(fd: int) -> trio.SocketListener:
    """Listen on a socket that was inherited from the process which started this one.

    Args:
      fd: its descriptor. It is the listener's from now on, made non-blocking, and not handed down to programs
        that we start.

    Raises:
      ValueError: it is no stream socket, or does not listen. The descriptor is as it was.
      OSError: it is no socket, or not open.
    """
    try:
        sock = socket.socket(fileno=fd)
    except OSError as exc:
        raise OSError(exc.errno, f"descriptor {fd} is no open socket: {exc.strerror}") from exc
    try:
        if sock.type != socket.SOCK_STREAM:
            raise ValueError(f"descriptor {fd} is a {sock.type.name} socket, not a SOCK_STREAM one")
        if not _listens(sock):
            raise ValueError(f"descriptor {fd} is a socket that does not listen")
        os.set_inheritable(fd, False)
        return trio.SocketListener(trio.socket.from_stdlib_socket(sock))
    except BaseException:
        sock.detach()
        raise


def _listens(sock: socket.socket) -> bool:
    try:
        return bool(sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))
    except OSError:
        return True  # macOS cannot tell; then the first `accept` will


def systemd_listeners(
    names: str | Iterable[str] | None = None, *, environ: MutableMapping[str, str] | None = None
) -> list[trio.SocketListener]:
    """Listen on the sockets that systemd has opened for us (socket activation).

    To be called once, before other programs are started: the variables that speak of the sockets are removed
    from the environment, whether the call succeeds or not, and none of the descriptors is handed down.

    Args:
      names: which of them, by ``FileDescriptorName=`` of the socket unit, which is the unit's own name if it
        does not say; in the order that is returned. A name that several sockets share stands for them all.
        None for all sockets, in the order of the units. Those not asked for stay open, and nobody is told of
        them.
      environ: where to look, and to remove; None for `os.environ`.

    Returns:
      one listener at least.

    Raises:
      RuntimeError: no sockets were passed, or not to this process, or what the variables say makes no sense;
        the fault of how it was started.
      LookupError: a name is not among those passed.
      ValueError, OSError: as `inherited_listener`, for one of the sockets that were asked for. All
        descriptors stay open.

    Reference: sd_listen_fds(3), systemd.socket(5).
    """
    environ = os.environ if environ is None else environ
    said = {name: environ.pop(name, None) for name in _PASSING_VARIABLES}
    passed = _passed_descriptors(said)
    for fd, _ in passed:
        # One that is not open, while it is not asked for, is nobody's trouble.
        with contextlib.suppress(OSError):
            os.set_inheritable(fd, False)
    if names is None:
        chosen = [fd for fd, _ in passed]
    else:
        chosen = []
        for name in dict.fromkeys([names] if isinstance(names, str) else names):
            found = [fd for fd, its_name in passed if its_name == name]
            if not found:
                there = ", ".join(repr(its_name) for its_name in dict.fromkeys(n for _, n in passed))
                raise LookupError(f"no socket named {name!r} was passed; there are: {there}")
            chosen += found
    listeners: list[trio.SocketListener] = []
    try:
        for fd in chosen:
            listeners.append(inherited_listener(fd))
    except BaseException:
        for listener in listeners:
            listener.socket.detach()
        raise
    return listeners


def _passed_descriptors(said: dict[str, str | None]) -> list[tuple[int, str]]:
    """Return each passed descriptor with its name."""
    pid, count, names = said["LISTEN_PID"], said["LISTEN_FDS"], said["LISTEN_FDNAMES"]
    if pid is None or count is None:
        missing = "LISTEN_PID" if pid is None else "LISTEN_FDS"
        raise RuntimeError(f"no sockets were passed: {missing} is not set (sd_listen_fds(3))")
    if pid != str(os.getpid()):
        raise RuntimeError(
            f"the sockets were passed to process {pid} (LISTEN_PID), and this is {os.getpid()}: "
            "is there a shell or a supervisor between, that should exec?"
        )
    if not count.isascii() or not count.isdigit() or int(count) < 1:
        raise RuntimeError(f"LISTEN_FDS must be a number of at least 1, not {count!r}")
    # "unknown" is what sd_listen_fds_with_names(3) calls those without a name.
    given = ["unknown"] * int(count) if names is None else names.split(":")
    if len(given) != int(count):
        raise RuntimeError(
            f"LISTEN_FDS says {count} sockets, and LISTEN_FDNAMES names {len(given)}: {names!r}"
        )
    return list(enumerate(given, _FIRST_PASSED))


def url_of(listener: trio.SocketListener, scheme: str = "http") -> str:
    """Return where a listener can be reached from this machine.

    Args:
      listener: open.
      scheme: "http" or "https".

    Returns:
      as in "http://127.0.0.1:8000", "http://[::1]:8000", or "http+unix://%2Frun%2Fapp.sock". A listener on
      all addresses is given by the loopback address, since 0.0.0.0 and :: are nobody's.
    """
    address = listener.socket.getsockname()
    if not isinstance(address, tuple):
        # Abstract names are bytes.
        return f"{scheme}+unix://{urllib.parse.quote(address, safe='')}"
    host, port = str(address[0]), address[1]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - compared, not bound
    if ":" in host:
        host = f"[{host.replace('%', '%25')}]"  # a zone is set off so (RFC 6874 §2)
    return f"{scheme}://{host}:{port}"
