"""A file that is downloaded in parts: what is there of it, and what that belongs to.

Beside the place of the file that shall be there in the end, there are two others until it is complete:

- the *part*, of the same name with ".part" behind it: the content from its beginning on. Its length says how
  much there is;
- the *record*, with ".part.json" behind it: what the content belongs to, for who goes on with it.

One rule keeps them true to each other, whatever is interrupted: *the record is never newer than the content*.
It is replaced only while the content is empty, and content is only ever appended. So a process may be killed
between any two steps: the content is then the beginning of what the record names, or there is no record, and
the content is of no use.

Who writes holds a lock on the content until it has the name that it is for. Where there are no such locks
(Windows, some file systems over networks), two processes must not download to one name.

A record without an entity tag or date to compare would be of no use, so then there is none. It has no URL
but a digest: URLs hold signatures and tokens.

All of it is for threads, except where it says otherwise: a disk may take its time.
"""

from __future__ import annotations

import errno
import functools
import json
import operator
import os
import stat
import sys
from pathlib import Path
from typing import Final, Literal

import attrs
import trio

from trio_http import wire
from trio_http.messages import Headers

from ._conditions import Validators

if sys.platform != "win32":
    import fcntl

# Records of another version are not understood.
_VERSION: Final = 1

# What file systems say that have no locks, some over networks.
_WITHOUT_LOCKS: Final = frozenset([errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP])

# Bytes of a record that are read at most: ours have some hundred.
_RECORD_BYTES: Final = 16 * 1024

# How files are opened whose names others can guess: not through a link that somebody has put there, which may
# lead to a file of ours; nor a pipe, which would wait for its other end.
_CAREFULLY: Final = functools.reduce(
    operator.or_,
    (getattr(os, name, 0) for name in ("O_NOFOLLOW", "O_NONBLOCK", "O_CLOEXEC", "O_BINARY")),
)


@attrs.frozen
class Record:
    """What the content of a part belongs to.

    Attributes:
      request: a digest of what was asked for.
      validators: of the response that it came with.
      coding: the content codings that it has, as sent; empty mostly.
      total: bytes of all the content; None if that is not known.
    """

    request: str
    validators: Validators
    coding: str = ""
    total: int | None = None

    def to_json(self) -> bytes:
        """Return the record as it is kept."""
        return json.dumps({"version": _VERSION, **attrs.asdict(self)}, indent=1).encode() + b"\n"

    @classmethod
    def from_json(cls, text: bytes) -> Record | None:
        """Return a record as it was kept; None if it is none that can be used."""
        try:
            data = json.loads(text)
            if data["version"] != _VERSION:
                return None
            given = data["validators"]
            request, coding, total = data["request"], data["coding"], data["total"]
            # As those of a response, so that nothing is sent which no server can have said.
            known = {"ETag": given["etag"], "Last-Modified": given["last_modified"], "Date": given["date"]}
            validators = Validators.of(
                Headers({name: text for name, text in known.items() if text is not None})
            )
        except (ValueError, TypeError, KeyError, RecursionError, wire.LocalProtocolError):
            return None
        is_sound = (
            isinstance(request, str)
            and isinstance(coding, str)
            and (total is None or (type(total) is int and total >= 0))
            and validators.if_range() is not None
        )
        return cls(request, validators, coding, total) if is_sound else None


class PartialFile:
    """The content of a download, as far as it is there.

    Args:
      target: the absolute path of the file that it is to become.

    Attributes:
      size: bytes there are, those that `add` has yet to see written included.
      record: what they belong to; None: nothing that could be gone on with.
      held: bytes that are not written yet.
      closed: it was closed, or completed.

    Raises: by `open`.
    """

    __slots__ = (
        "_begun",
        "_file",
        "_held",
        "_part",
        "_record_path",
        "_target",
        "closed",
        "held",
        "record",
        "size",
    )

    def __init__(self, target: Path) -> None:
        self._target = target
        self._part = target.with_name(f"{target.name}.part")
        self._record_path = target.with_name(f"{target.name}.part.json")
        self._held: list[bytes] = []
        self._begun = False  # what is in the file was put there, or taken away, by us
        self.held = 0
        self.size = 0
        self.record: Record | None = None
        self.closed = False

    @classmethod
    def open(cls, target: Path, request: str) -> PartialFile:
        """Open the part of a file, and see what is there.

        Args:
          target: an absolute path.
          request: a digest of what will be asked for; what belongs to another is of no use.

        Raises:
          IsADirectoryError, FileNotFoundError, NotADirectoryError: ``target`` cannot become a file.
          trio.BusyResourceError: somebody else is downloading to this path.
          OSError: the part cannot be opened.
        """
        self = cls(target)
        if target.is_dir():
            raise IsADirectoryError(f"cannot download to {str(target)!r}, which is a directory: add a name")
        if not target.parent.is_dir():
            kind = NotADirectoryError if target.parent.exists() else FileNotFoundError
            raise kind(f"cannot download to {str(target)!r}: {str(target.parent)!r} is no directory")
        self._open_locked()
        try:
            self.size = os.fstat(self._file).st_size
            record = self._recorded()
            if record is not None and record.request == request:
                fits = record.total is None or self.size <= record.total
                self.record = record if fits else None
        except BaseException:
            os.close(self._file)
            raise
        return self

    def _open_locked(self) -> None:
        while True:
            file = os.open(self._part, os.O_RDWR | os.O_CREAT | _CAREFULLY, 0o666)
            try:
                facts = os.fstat(file)
                if not stat.S_ISREG(facts.st_mode):
                    raise FileExistsError(f"{str(self._part)!r} is there, and is no regular file")
                if _is_planted(facts, self._part.parent):
                    raise FileExistsError(f"{str(self._part)!r} is there, and belongs to another user")
                if _locked(file, self._part) == "renamed":
                    os.close(file)
                    continue
            except BaseException:
                os.close(file)
                raise
            self._file = file
            return

    def _recorded(self) -> Record | None:
        try:
            file = os.open(self._record_path, os.O_RDONLY | _CAREFULLY)
        except OSError as exc:
            if exc.errno in (errno.ENOENT, errno.ELOOP):  # the latter for a link
                return None
            raise
        try:
            facts = os.fstat(file)
            is_ours = stat.S_ISREG(facts.st_mode) and not _is_planted(facts, self._part.parent)
            return Record.from_json(os.read(file, _RECORD_BYTES)) if is_ours else None
        finally:
            os.close(file)

    def begin(self, record: Record | None) -> None:
        """Throw away what is there, and have what comes belong to something else.

        Raises:
          OSError: the disk's; then there is no content, or nothing that could be gone on with.
        """
        self._begun = True
        self.record = None
        self._held, self.held, self.size = [], 0, 0
        os.ftruncate(self._file, 0)
        if record is None:
            self._record_path.unlink(missing_ok=True)
        else:
            fresh = self._record_path.with_name(f"{self._record_path.name}.new")
            fresh.unlink(missing_ok=True)
            with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _CAREFULLY, 0o666), "wb") as file:
                file.write(record.to_json())
            os.replace(fresh, self._record_path)
        self.record = record

    def add(self, piece: bytes) -> None:
        """Append to the content, for the time being in memory. For the event loop."""
        self._held.append(piece)
        self.held += len(piece)
        self.size += len(piece)

    def write(self) -> None:
        """Write what was added.

        Raises:
          OSError: the disk's; the beginning may have been written, and the rest is lost.
        """
        data = memoryview(b"".join(self._held))
        self._held, self.held = [], 0
        os.lseek(self._file, 0, os.SEEK_END)
        while data:
            data = data[os.write(self._file, data) :]

    def complete(self) -> None:
        """Write what was added, and give the content its name, in place of what has that name now.

        Raises:
          OSError: the disk's; the part is still there.
        """
        self.write()
        # Else a name that is on the disk could stand for content that is not, after a loss of power.
        os.fsync(self._file)
        if sys.platform == "win32":
            self._close()  # what is open has no other name there
        os.replace(self._part, self._target)
        self._close()
        self._record_path.unlink(missing_ok=True)

    def close(self) -> None:
        """Write what was added, if it can be gone on with, and else remove what is of no use to anybody.

        Never raises an `OSError`: what does not get written will be asked for again.
        """
        if self.closed:
            return
        try:
            if self.record is not None:
                self.write()
            size = os.fstat(self._file).st_size
            if size == 0 or (self._begun and self.record is None):
                self._record_path.unlink(missing_ok=True)
                self._part.unlink(missing_ok=True)
        except OSError:
            pass
        finally:
            self._close()

    def _close(self) -> None:
        if not self.closed:
            self.closed = True
            os.close(self._file)


def _is_planted(facts: os.stat_result, folder: Path) -> bool:
    """Tell whether a file was put by another user into a folder such as /tmp, where everybody may put some.

    Its owner could say how the download begins, and change what it has become. Linux refuses to open it where
    its sysctl fs.protected_regular is set; in other folders it is for those to decide who may write there.
    """
    if os.name != "posix" or facts.st_uid == os.geteuid():
        return False
    where = folder.stat()
    is_shared = where.st_mode & stat.S_ISVTX and where.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    return bool(is_shared) and facts.st_uid != where.st_uid


def _locked(file: int, path: Path) -> Literal["locked", "renamed"]:
    """Lock an open file, and tell whether it has its name still.

    Raises:
      trio.BusyResourceError: it is locked.
    """
    if sys.platform == "win32":
        return "locked"
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as exc:
        raise trio.BusyResourceError(f"another download is writing {str(path)!r}") from exc
    except OSError as exc:
        if exc.errno not in _WITHOUT_LOCKS:
            raise
    # Who held the lock may have given the file its final name, or removed it.
    try:
        return "locked" if os.path.samestat(os.stat(path), os.fstat(file)) else "renamed"
    except FileNotFoundError:
        return "renamed"
