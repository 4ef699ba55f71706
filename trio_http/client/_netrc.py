"""Credentials by host from a netrc file, as curl and ftp read it."""

from __future__ import annotations

import math
import netrc
import os
import stat
from pathlib import Path
from typing import Final

import attrs
import trio

from trio_http._errors import InvalidRequest
from trio_http.messages import FieldsInput

from ._auth import Auth, AuthRequest, BasicAuth

# How long the file is taken to be as it was. A thread for each request would cost more than the request; and
# nobody notices a changed password sooner. Arbitrary.
_TRUSTED_SECONDS: Final = 1.0


class NetrcAuth(Auth):
    """User name and password from a netrc file, sent as by `BasicAuth` to the hosts that the file names.

    The file is read in a thread when the first request needs it, and again when it has changed, which is
    looked for at most once a second. An entry ``default`` is for all other hosts; a host's own entry without
    name and password means none. Hosts stand there as they are looked up: in ASCII, IPv6 without brackets,
    in whatever case. Ports and schemes are not told apart, since the file does not.

    Args:
      path: the file. None: what the environment variable NETRC names when the first request is made; without
        it, ``.netrc`` (or, where there is none, ``_netrc``) in the home folder. If that is not there, nobody
        has credentials; it is refused if others than its owner can read it. A file that was named has to be
        there, and may be readable by whom its owner likes.

    Errors of a request, of which nothing was sent then: `InvalidRequest` if the file cannot be read or
      parsed. It names the file and the line, and not what stands there.
    """

    def __init__(self, path: str | os.PathLike[str] | None = None) -> None:
        self._path = None if path is None else Path(path)
        self._known: _Known | None = None
        self._looked_at = -math.inf
        self._lock = trio.Lock()

    async def authorize(self, request: AuthRequest) -> FieldsInput:
        """Return the Authorization field for the request's host, if there is an entry, as `Auth.authorize`.

        Cancellation: the request is not sent. The thread that reads the file is left to itself.
        """
        if not self._is_fresh():
            async with self._lock:  # one thread, however many requests wait for it
                if not self._is_fresh():
                    self._known = await trio.to_thread.run_sync(
                        _read, self._path, self._known, abandon_on_cancel=True
                    )
                    self._looked_at = trio.current_time()
        assert self._known is not None, "a fresh file was read"
        entries = self._known.entries
        entry = entries.get(request.origin.host) or entries.get("default")
        if entry is None or not any(entry):
            return ()
        try:
            auth = BasicAuth(*entry)
        except InvalidRequest as exc:
            raise InvalidRequest(f"the entry for {request.origin.host} in {self._known.path}: {exc}") from exc
        return await auth.authorize(request)

    def _is_fresh(self) -> bool:
        return self._known is not None and trio.current_time() - self._looked_at < _TRUSTED_SECONDS


@attrs.frozen
class _Known:
    """A file as it was read.

    Attributes:
      path: of the file.
      identity: changes when the file does; None if there is no file.
      entries: name and password by host in lower case.
    """

    path: Path
    identity: tuple[int, ...] | None
    entries: dict[str, tuple[str, str]] = attrs.field(factory=dict, repr=False)


def _read(given: Path | None, known: _Known | None) -> _Known:
    """Return the file as it is now; runs in a thread.

    Raises:
      InvalidRequest: it cannot be read or parsed.
    """
    path, named_by = _place_of(given)
    try:
        facts = path.stat()
    except FileNotFoundError as exc:
        if named_by:
            raise InvalidRequest(f"the netrc file {path}, named by {named_by}, is not there") from exc
        return _Known(path, None)
    except OSError as exc:
        raise InvalidRequest(f"the netrc file {path} cannot be read: {exc.strerror}") from exc
    identity = (facts.st_dev, facts.st_ino, facts.st_size, facts.st_mtime_ns, facts.st_mode, facts.st_uid)
    if known is not None and known.path == path and known.identity == identity:
        return known
    if not named_by and (why := _too_open(facts)):
        raise InvalidRequest(f"the netrc file {path} {why}; chmod 600 by its owner makes it usable")
    try:
        return _Known(path, identity, _entries_of(path))
    except OSError as exc:
        raise InvalidRequest(f"the netrc file {path} cannot be read: {exc.strerror}") from exc


def _place_of(given: Path | None) -> tuple[Path, str]:
    """Return the file's place, and who named it; nobody for the default."""
    if given is not None:
        return given, "the path given"
    if named := os.environ.get("NETRC"):
        return Path(named), "the environment variable NETRC"
    usual, other = (
        os.path.expanduser("~/.netrc"),
        os.path.expanduser("~/_netrc"),
    )  # precedent: curl on Windows
    return Path(other if not os.path.exists(usual) and os.path.exists(other) else usual), ""


def _too_open(facts: os.stat_result) -> str:
    """Return what is wrong with a file of passwords in the home folder; nothing where that is not told."""
    if os.name != "posix":
        return ""
    if facts.st_uid != os.getuid():
        return f"belongs to the user {facts.st_uid}, not to {os.getuid()}"
    mode = stat.S_IMODE(facts.st_mode)
    return f"can be used by others (mode {mode:03o})" if mode & (stat.S_IRWXG | stat.S_IRWXO) else ""


def _entries_of(path: Path) -> dict[str, tuple[str, str]]:
    """Parse the file.

    Raises:
      InvalidRequest: it is malformed.
      OSError: it cannot be read.
    """
    try:
        hosts = netrc.netrc(path).hosts
    except netrc.NetrcParseError as exc:
        where = f"in line {exc.lineno}"
    except UnicodeDecodeError:
        where = "as text"
    else:
        return {host.lower(): (login or "", password or "") for host, (login, _, password) in hosts.items()}
    # Behind the block, since those errors quote the file, and one of its words is a password.
    raise InvalidRequest(f"the netrc file {path} cannot be parsed {where}")
