"""One TLS session without I/O: ciphertext in, plaintext out, and ciphertext that has to be sent.

Theory of operation
===================

The stdlib's `ssl.SSLObject` is synchronous: plaintext and ciphertext go in and come out, and nothing waits.
Two queues of ciphertext belong to it. `TLSEngine` says what goes on between them; how the bytes travel is the
business of the transports that hold one, over a socket (`_tls`) or over another transport
(`_tls_over_stream`).

*In.* What was received goes into `incoming`, and all whole records are decrypted at once
(`TLSEngine.decrypt`). So between calls that queue holds at most a part of one record, which OpenSSL has taken
in already; and there is no plaintext left inside either, since one read asks for more than the largest
record. Hence the rule that receiving can wait for ciphertext first: nothing can be ready inside, except what
`stored` and `ended` say.

*Out.* All ciphertext, ours and what the protocol answers by itself, leaves the SSL object in the order in
which it must reach the peer, into `outgoing`. The transport takes it from there. What it has taken must reach
the peer whole and in that order, or nothing may follow it (`broken`).

*Session tickets.* OpenSSL's server writes them when the TLS 1.3 handshake ends, though the client may never
read. They are held back until there is something else to send (`held`), which also saves a packet.

*The end.* A closure alert is the regular end. End of file without it sets `Transport.truncated`, wherever it
comes, since all whole records before it have been decrypted. A failure of the protocol ends the session too
(`failure`), after what came before it.
"""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Callable
from typing import Final, NoReturn

import trio

from ._transport import RECEIVE_BYTES, Address

#: How much is encrypted at a time, in bytes: four records of the largest size (RFC 8446 section 5.1). More
#: would only hold more ciphertext beside the caller's bytes.
SLICE_BYTES: Final = 65536

#: How much ciphertext may wait while we receive, in bytes, and how much plaintext may be read ahead while an
#: answer of the protocol cannot be sent. Above our own slice (with what its records add) there are only such
#: answers, of 50 bytes to some KiB; a peer that makes us pile up more does not read on purpose.
MAX_WAITING_BYTES: Final = 4 * SLICE_BYTES

#: How often `Transport.is_stale` reads. A new connection has some session tickets, which one read takes; the
#: second finds nothing. Whoever sends faster than we look is not idle.
STALE_READS: Final = 4


class TLSEngine:
    """One side of a TLS session. Nothing in here waits, or knows where the bytes come from and go to.

    Args:
      context: versions, certificates and protocols (ALPN) to offer.
      server_side: our role.
      server_hostname: client only: the name or IP address to ask for (SNI) and to verify.
      session: client only: one to resume, of an earlier connection with the same context.
      leftover: ciphertext that was received already, any length.

    Attributes:
      tls: the SSL object, for the facts of the session.
      incoming: ciphertext that was received.
      outgoing: ciphertext that has to be sent.
      held: how many bytes of `outgoing` are session tickets that wait for company, from 0. There is nothing
        else in it then; who takes them sets this to 0.
      stored: plaintext of any length that nobody has asked for yet: it came with the handshake, was found by
        `Transport.is_stale`, or is more than one receive may return.
      ended: nothing more is decrypted: after a closure alert, a failure, or end of file, which the transport
        notes here.
      failure: what broke the protocol while receiving or sending, if anything did. `ended` is then True.
      broken: nothing more may be sent: set here when `encrypt` fails, by the transport in all other cases.
      peername: as in `Transport`, for the texts of errors.

    Raises:
      ValueError: `server_hostname` does not fit the context; the fault of the calling program.
    """

    __slots__ = (
        "_decode",
        "_encode",
        "broken",
        "ended",
        "failure",
        "held",
        "incoming",
        "outgoing",
        "peername",
        "stored",
        "tls",
    )

    def __init__(
        self,
        context: ssl.SSLContext,
        server_side: bool,
        server_hostname: str | None,
        session: ssl.SSLSession | None = None,
        leftover: bytes = b"",
    ) -> None:
        if context.check_hostname and not server_side and not server_hostname:
            # `wrap_bio`, unlike `wrap_socket`, would take this, and then verify no name at all.
            raise ValueError("the context checks host names, so server_hostname must be given")
        self.incoming = ssl.MemoryBIO()
        self.outgoing = ssl.MemoryBIO()
        self.incoming.write(leftover)
        self.tls: ssl.SSLObject = context.wrap_bio(
            self.incoming,
            self.outgoing,
            server_side=server_side,
            server_hostname=server_hostname,
            session=session,
        )
        # Bound once: a look-up and a method object less in each call of the hot path.
        self._decode: Callable[[int], bytes] = self.tls.read
        self._encode: Callable[[bytes | bytearray | memoryview], int] = self.tls.write
        self.held: int = 0
        self.stored: bytes = b""
        self.ended: bool = False
        self.failure: ssl.SSLError | None = None
        self.broken: bool = False
        self.peername: Address = None

    def peer(self) -> str:
        """Return how an error's text names the peer."""
        return "the peer" if self.peername is None else repr(self.peername)

    def shake_hands(self) -> bool:
        """Go on with the handshake, as far as `incoming` allows.

        Returns:
          False: what is in `outgoing` has to be sent, and then more has to be received. True: the handshake
            is over; what is in `outgoing` has to be sent, unless it is `held`. Plaintext that came with the
            end of the handshake is `stored`, and a `failure` in it is noted.

        Raises:
          trio.BrokenResourceError: the peers did not agree. An alert that says why is in `outgoing`.
        """
        try:
            self.tls.do_handshake()
        except ssl.SSLWantReadError:
            return False
        except ssl.SSLError as exc:
            self._note_failure(exc)
            raise trio.BrokenResourceError(f"TLS handshake failed with {self.peer()}: {exc}") from exc
        if self.writes_tickets():
            self.held = self.outgoing.pending
        if self.incoming.pending:
            # The client's first bytes may have come together with the end of its handshake, without waiting
            # for ours.
            self.stored = self.decrypt(b"") or b""
        return True

    def writes_tickets(self) -> bool:
        """Return whether session tickets are all that the protocol sends by itself after the handshake."""
        return self.tls.server_side and self.tls.version() == "TLSv1.3"

    # In

    def decrypt(self, ciphertext: bytes) -> bytes | None:
        """Take in what was received, and decrypt all whole records.

        What the protocol answers is in `outgoing` afterwards; after a `failure`, the alert that tells it.

        Args:
          ciphertext: any length, also none.

        Returns:
          Plaintext, of any length; b"" when the session has ended and there is none before the end; None when
          more has to be received. An end that comes after plaintext is only noted, in `ended` and `failure`.
        """
        self.incoming.write(ciphertext)
        chunks: list[bytes] = []
        while True:
            try:
                chunk = self._decode(RECEIVE_BYTES)
            except ssl.SSLWantReadError:
                break
            except ssl.SSLZeroReturnError:
                chunk = b""  # The closure alert, when we have sent ours already.
            except ssl.SSLError as exc:
                # What came before it is sound, and goes first.
                self._note_failure(exc)
                break
            if not chunk:
                self.ended = True
                break
            if not self.incoming.pending:
                # OpenSSL takes one record at a time out of the BIO, so there is none left; asking it again,
                # to be told so by an exception, would cost more than a small record.
                if not chunks:
                    return chunk
                chunks.append(chunk)
                break
            chunks.append(chunk)
        if chunks:
            return b"".join(chunks)
        return b"" if self.ended else None

    def take(self) -> bytes:
        """Return what needs no reading: what is `stored`, then the end or failure that came after it.

        Returns:
          1 to `RECEIVE_BYTES` bytes, or b"" at the end.

        Raises:
          trio.BrokenResourceError: the protocol failed.
        """
        if self.stored:
            stored, self.stored = self.stored, b""
            return self.in_part(stored)
        if self.failure is not None:
            self.raise_failure()
        return b""

    def in_part(self, plaintext: bytes) -> bytes:
        """Return as much as one receive may, `RECEIVE_BYTES`; the rest is `stored`."""
        # One receive's ciphertext may complete a record of which OpenSSL had taken in a part before.
        if len(plaintext) > RECEIVE_BYTES:
            self.stored = plaintext[RECEIVE_BYTES:]
            return plaintext[:RECEIVE_BYTES]
        return plaintext

    # Out

    def due(self) -> int:
        """Return how many bytes of `outgoing` wait to be sent: not the session tickets that are `held`."""
        return self.outgoing.pending - self.held

    def encrypt(self, data: bytes | bytearray | memoryview) -> int:
        """Encrypt into `outgoing`.

        Args:
          data: 1 to `SLICE_BYTES` bytes.

        Returns:
          How many bytes of `data` that took.

        Raises:
          trio.BrokenResourceError: the protocol failed, or the peer has begun a renegotiation (TLS 1.2).
            Nothing more may be sent, and there is no alert to send: OpenSSL prepares those when it reads.
        """
        try:
            return self._encode(data)
        except ssl.SSLWantReadError as exc:
            self.broken = True
            raise trio.BrokenResourceError(
                f"{self.peer()} started a TLS renegotiation while we were sending, which is not supported"
            ) from exc
        except ssl.SSLError as exc:
            self.broken = True
            self._note_failure(exc)
            self.raise_failure()

    def check_unbroken(self) -> None:
        """Raise `trio.BrokenResourceError` when nothing more may be sent."""
        if self.broken:
            raise trio.BrokenResourceError(
                "nothing more can be sent on this TLS connection: it failed, or an earlier send was cancelled"
            )

    def encrypt_closure_alert(self) -> None:
        """Put our closure alert into `outgoing`."""
        # Python's shutdown is OpenSSL's, called twice. The second call looks for the peer's alert, and would
        # fail for good at application data. Invariant: no whole record waits in the BIO, so it finds nothing.
        with contextlib.suppress(OSError):
            self.tls.unwrap()

    # Failures

    def _note_failure(self, exc: ssl.SSLError) -> None:
        self.ended = True
        self.failure = exc

    def raise_failure(self) -> NoReturn:
        """Raise `trio.BrokenResourceError` from `failure`."""
        raise trio.BrokenResourceError(f"TLS with {self.peer()} failed: {self.failure}") from self.failure
