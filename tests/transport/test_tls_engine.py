"""The TLS engine by itself: two of them, joined by hand, with no socket, stream or Trio between."""

from __future__ import annotations

import random
import ssl

import pytest
import trio

from tests.transport._peers import client_context, server_context
from trio_http.transport import RECEIVE_BYTES
from trio_http.transport._tls_engine import SLICE_BYTES, TLSEngine

TLS12 = ssl.TLSVersion.TLSv1_2


def engines(
    client: ssl.SSLContext | None = None, server: ssl.SSLContext | None = None
) -> tuple[TLSEngine, TLSEngine]:
    """A client's engine and a server's, before their handshake."""
    return (
        TLSEngine(client or client_context(), False, "example.test"),
        TLSEngine(server or server_context(), True, None),
    )


def shake(client: TLSEngine, server: TLSEngine) -> None:
    """Carry the handshake to its end on both sides; session tickets stay where they are."""
    done = [False, False]
    for _ in range(10):
        for side, (one, other) in enumerate(((client, server), (server, client))):
            if not done[side]:
                done[side] = one.shake_hands()
            if not one.held:
                other.incoming.write(one.outgoing.read())
        if all(done):
            return
    raise AssertionError(f"the handshake has no end: {done}")


def joined(
    client: ssl.SSLContext | None = None, server: ssl.SSLContext | None = None
) -> tuple[TLSEngine, TLSEngine]:
    """A client's engine and a server's after their handshake."""
    pair = engines(client, server)
    shake(*pair)
    return pair


def records(engine: TLSEngine, data: bytes) -> bytes:
    """The ciphertext of `data`."""
    assert engine.encrypt(data) == len(data)
    return engine.outgoing.read()


def test_what_one_engine_encrypts_the_other_decrypts() -> None:
    client, server = joined()
    assert server.decrypt(records(client, b"a question")) == b"a question"
    server.held = 0
    assert client.decrypt(records(server, b"an answer")) == b"an answer"
    assert client.tls.version() == server.tls.version() == "TLSv1.3"
    for engine in (client, server):
        assert not engine.ended
        assert engine.failure is None


def test_however_the_ciphertext_is_cut_all_whole_records_are_decrypted_at_once() -> None:
    seed = random.randrange(1 << 32)
    print("seed", seed)
    chance = random.Random(seed)
    client, server = joined()
    lengths = [1, 100, 16384, 40000, SLICE_BYTES]
    pieces = [chance.randbytes(length) for length in lengths]
    sealed = [records(client, piece) for piece in pieces]
    ciphertext = b"".join(sealed)
    got = b""
    at = 0
    while at < len(ciphertext):
        size = chance.choice([1, 3, 5, 1000, 17000, 70000])
        plaintext = server.decrypt(ciphertext[at : at + size])
        at += size
        assert plaintext != b""  # that would be the end
        got += plaintext or b""
        # Of any message whose ciphertext is all there, nothing may be missing.
        whole = sum(
            length for index, length in enumerate(lengths) if sum(map(len, sealed[: index + 1])) <= at
        )
        assert len(got) >= whole
        assert server.decrypt(b"") is None
    assert got == b"".join(pieces)


def test_a_part_of_a_record_is_taken_in_and_gives_nothing_yet() -> None:
    client, server = joined()
    record = records(client, b"whole")
    assert server.decrypt(record[:-1]) is None
    assert server.incoming.pending == 0
    assert server.decrypt(record[-1:]) == b"whole"


def test_a_servers_session_tickets_are_held_and_not_due() -> None:
    _, server = joined()
    assert server.held == server.outgoing.pending > 0
    assert server.due() == 0
    server.encrypt(b"company")
    assert server.due() == server.outgoing.pending - server.held > 0


def test_nothing_is_held_in_tls_1_2() -> None:
    _, server = joined(server=server_context(maximum_version=TLS12))
    assert server.tls.version() == "TLSv1.2"
    assert not server.writes_tickets()
    assert server.held == server.outgoing.pending == 0


def test_the_tickets_give_a_client_no_plaintext_and_no_end() -> None:
    client, server = joined()
    assert client.decrypt(server.outgoing.read()) is None
    assert not client.ended


def test_plaintext_that_comes_with_the_end_of_the_handshake_is_stored() -> None:
    client, server = engines()
    client.shake_hands()
    server.incoming.write(client.outgoing.read())
    server.shake_hands()
    client.incoming.write(server.outgoing.read())
    assert client.shake_hands()
    client.encrypt(b"early")
    server.incoming.write(client.outgoing.read())
    assert server.shake_hands()
    assert server.take() == b"early"
    assert server.stored == b""


def test_ciphertext_received_before_is_used_first() -> None:
    client = TLSEngine(client_context(), False, "example.test")
    client.shake_hands()
    server = TLSEngine(server_context(), True, None, leftover=client.outgoing.read())
    shake(client, server)
    assert server.decrypt(records(client, b"hello")) == b"hello"


def test_the_closure_alert_ends_the_session_after_what_came_before_it() -> None:
    client, server = joined()
    client.encrypt(b"last words")
    client.encrypt_closure_alert()
    assert server.decrypt(client.outgoing.read()) == b"last words"
    assert server.ended
    assert server.failure is None
    for _ in range(2):
        assert server.take() == b""


def test_the_closure_alert_alone_is_the_end() -> None:
    client, server = joined()
    client.encrypt_closure_alert()
    assert server.decrypt(client.outgoing.read()) == b""
    assert server.ended


def test_a_failure_alone_is_an_end_that_every_take_tells() -> None:
    client, server = joined()
    client.peername = ("192.0.2.1", 443)
    assert client.decrypt(b"HTTP/1.1 400 Bad Request\r\n\r\n") == b""
    assert client.ended
    for _ in range(2):
        with pytest.raises(trio.BrokenResourceError, match=r"TLS with \('192.0.2.1', 443\) failed") as caught:
            client.take()
        assert caught.value.__cause__ is client.failure
    # The alert tells the other side, which has nothing to answer.
    assert client.due()
    assert server.decrypt(client.outgoing.read()) == b""
    assert "alert" in str(server.failure).lower()


def test_what_came_before_a_failure_is_sound_and_goes_first() -> None:
    client, server = joined()
    sound = records(client, b"sound")
    spoilt = bytearray(records(client, b"spoilt"))
    spoilt[-1] ^= 1
    assert server.decrypt(sound + bytes(spoilt)) == b"sound"
    assert server.ended
    with pytest.raises(trio.BrokenResourceError, match="TLS with the peer failed"):
        server.take()


def test_a_record_of_another_session_is_a_failure() -> None:
    client, _ = joined()
    _, stranger = joined()
    assert stranger.decrypt(records(client, b"not for you")) == b""
    assert stranger.failure is not None


def test_more_than_one_receive_may_return_is_given_in_parts() -> None:
    client, _ = engines()
    client.stored = bytes(RECEIVE_BYTES) + b"the rest"
    assert client.take() == bytes(RECEIVE_BYTES)
    assert client.take() == b"the rest"
    assert client.in_part(b"little") == b"little"
    assert client.stored == b""


def test_a_failed_handshake_has_its_cause_and_an_alert_to_send() -> None:
    client, server = engines(client=ssl.create_default_context())
    client.shake_hands()
    server.incoming.write(client.outgoing.read())
    server.shake_hands()
    client.incoming.write(server.outgoing.read())
    with pytest.raises(trio.BrokenResourceError, match="TLS handshake failed with the peer") as caught:
        client.shake_hands()
    assert isinstance(caught.value.__cause__, ssl.SSLCertVerificationError)
    server.incoming.write(client.outgoing.read())
    with pytest.raises(trio.BrokenResourceError, match=r"(?i)unknown.ca"):
        server.shake_hands()


def test_a_client_must_name_the_server_that_its_context_checks() -> None:
    with pytest.raises(ValueError, match="server_hostname must be given"):
        TLSEngine(client_context(), False, None)


def test_an_encryption_that_fails_lets_nothing_follow() -> None:
    client, _ = joined()
    client.check_unbroken()
    client.encrypt_closure_alert()  # OpenSSL refuses to write after it
    with pytest.raises(trio.BrokenResourceError, match="TLS with the peer failed") as caught:
        client.encrypt(b"more")
    assert caught.value.__cause__ is client.failure
    assert client.broken
    with pytest.raises(trio.BrokenResourceError, match="nothing more can be sent"):
        client.check_unbroken()


def test_a_renegotiation_met_while_sending_lets_nothing_follow_but_is_no_failure() -> None:
    def encode(data: object) -> int:
        """Answer as OpenSSL does in a renegotiation; `test_tls_openssl` has a real one."""
        raise ssl.SSLWantReadError

    client, server = joined()
    client._encode = encode
    with pytest.raises(trio.BrokenResourceError, match="started a TLS renegotiation while we were sending"):
        client.encrypt(b"more")
    with pytest.raises(trio.BrokenResourceError, match="nothing more can be sent"):
        client.check_unbroken()
    # What the peer says can still be read.
    server.held = 0
    assert client.decrypt(records(server, b"still here")) == b"still here"
    assert client.failure is None
