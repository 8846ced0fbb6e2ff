"""What a client keeps of a server's first flight, whole, cut off or made up by an enemy."""

import contextlib
import hashlib
import ssl
from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from instance_agent.installing.handshake import MOST_BYTES, EndlessError, Handshake, is_refusal
from instance_agent.targets.parts.key_loading import load_bundle
from tests.rigs.certificates import self_signed

NAME = "shop.example.com"


@cache
def recorded() -> tuple[bytes, str]:
    """A first flight of TLS 1.2, four records of which the second holds the certificate, and the leaf's fingerprint."""
    issued = self_signed(NAME)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    load_bundle(context, issued.bundle())
    received, to_send = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = context.wrap_bio(received, to_send, server_side=True)
    client = Handshake(NAME)
    client.go_on()
    received.write(client.to_send())
    with contextlib.suppress(ssl.SSLWantReadError):
        server.do_handshake()
    return to_send.read(), issued.fingerprint


def records(flight: bytes) -> list[bytes]:
    """The messages of a flight, without what is around each."""
    found = []
    while flight:
        size = 5 + int.from_bytes(flight[3:5])
        found.append(flight[5:size])
        flight = flight[size:]
    return found


def record(content: bytes) -> bytes:
    return b"\x16\x03\x03" + len(content).to_bytes(2) + content


def shown_by(flight: bytes, *, piece: int = 65536) -> tuple[str | None, BaseException | None]:
    """The fingerprint that a client keeps of a flight behind which the server closes, and what ended the handshake."""
    client = Handshake(NAME)
    client.go_on()
    failure: BaseException | None = None
    try:
        for begin in range(0, len(flight), piece):
            client.take(flight[begin : begin + piece])
            client.go_on()
        client.take(b"")
        client.go_on()
    except (ssl.SSLError, EndlessError) as error:
        failure = error
    leaf = client.leaf()
    return (None if leaf is None else hashlib.sha256(leaf).hexdigest()), failure


def test_nothing_is_kept_before_a_certificate_was_shown() -> None:
    flight, _ = recorded()
    assert Handshake(NAME).leaf() is None
    assert shown_by(records(flight)[0])[0] is None


@pytest.mark.parametrize("piece", [1, 7, 65536])
def test_the_leaf_is_kept_however_the_flight_is_cut_into_records_and_pieces(piece: int) -> None:
    flight, fingerprint = recorded()
    messages = b"".join(records(flight))
    for size in (60, 1000, 16000):
        cut = b"".join(record(messages[begin : begin + size]) for begin in range(0, len(messages), size))
        assert shown_by(cut, piece=piece)[0] == fingerprint


def test_a_flight_that_ends_after_the_certificate_is_the_servers_will_and_a_wrong_signature_its_fault() -> None:
    flight, fingerprint = recorded()
    hello, certificate, *_ = (record(message) for message in records(flight))
    seen, failure = shown_by(hello + certificate)
    assert seen == fingerprint
    assert failure is not None
    assert is_refusal(failure)
    seen, failure = shown_by(flight)  # signed for another client
    assert seen == fingerprint
    assert failure is not None
    assert not is_refusal(failure)


def test_what_never_ends_is_not_taken() -> None:
    client = Handshake(NAME)
    with pytest.raises(EndlessError):
        client.take(bytes(MOST_BYTES + 1))


@given(st.data())
def test_whatever_an_enemy_sends_ends_the_handshake_in_a_way_that_is_known(data: st.DataObject) -> None:
    flight, fingerprint = recorded()
    changed = bytearray(flight)
    for _ in range(data.draw(st.integers(1, 5))):
        place = data.draw(st.integers(0, len(changed) - 1))
        changed[place : place + data.draw(st.integers(0, 4))] = data.draw(st.binary(max_size=4))
        changed = changed or bytearray(b"\0")
    seen, failure = shown_by(bytes(changed))
    assert seen is None or len(seen) == len(fingerprint)
    assert failure is not None


@given(st.binary(max_size=400))
def test_noise_shows_nothing(noise: bytes) -> None:
    assert shown_by(noise)[0] is None
