"""The envelope of a sealed bundle; that the SDK and certcast read each other's is a test with the emulator."""

import json
from pathlib import Path
from typing import Any

import pytest
from cryptography.exceptions import InvalidTag
from hypothesis import given
from hypothesis import strategies as st

from shared.azure.envelope import SEALING_BYTES, Envelope, sealed
from shared.azure.key_encryption import FileKey

KEY = FileKey(Path("key"), bytes(range(32)))


def read_again(envelope: Envelope) -> Envelope:
    found = Envelope.of(envelope.metadata())
    assert found is not None
    return found


@given(st.binary(max_size=3000))
def test_what_was_sealed_opens_with_what_its_metadata_say(plain: bytes) -> None:
    envelope, content = sealed(plain, KEY)
    found = read_again(envelope)
    assert found == envelope
    assert len(content) == len(plain) + SEALING_BYTES
    assert found.opened(content, KEY.unwrap_key(found.wrapped_key, found.algorithm)) == plain


def test_each_has_a_key_of_its_own() -> None:
    (one, first), (other, second) = sealed(b"pem", KEY), sealed(b"pem", KEY)
    assert one.wrapped_key != other.wrapped_key
    assert first != second


def test_the_wrapped_key_is_in_no_text_of_it() -> None:
    envelope, _ = sealed(b"pem", KEY)
    assert "wrapped_key" not in repr(envelope)


def changed(told: dict[str, Any], path: tuple[str, ...], value: object) -> dict[str, Any]:
    return told | {path[0]: changed(told[path[0]], path[1:], value) if path[1:] else value}


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("EncryptedRegionInfo",), None),
        (("EncryptedRegionInfo", "DataLength"), "4194304"),
        (("EncryptedRegionInfo", "DataLength"), 4194304.0),
        (("EncryptedRegionInfo", "NonceLength"), 10**9),
        (("WrappedContentKey", "KeyId"), 5),
        (("WrappedContentKey", "EncryptedKey"), "!!"),
        (("WrappedContentKey", "EncryptedKey"), "größe"),
        (("WrappedContentKey", "Algorithm"), []),
        (("EncryptionAgent",), 7),
        (("EncryptionAgent", "Protocol"), "1.0"),
        (("EncryptionAgent", "EncryptionAlgorithm"), "AES_CBC_256"),
    ],
)
def test_metadata_of_another_form_are_none(path: tuple[str, ...], value: object) -> None:
    envelope, _ = sealed(b"pem", KEY)
    told = json.loads(envelope.metadata()["encryptiondata"])
    assert Envelope.of({"EncryptionData": json.dumps(told)}) == envelope
    assert Envelope.of({"encryptiondata": json.dumps(changed(told, path, value))}) is None


@pytest.mark.parametrize("text", ["", "{", "null", "[" * 8000, '{"a":' * 2000, "1" * 8000, '"\\ud800"'])
def test_what_is_no_document_is_none(text: str) -> None:
    assert Envelope.of({"encryptiondata": text}) is None
    assert Envelope.of({}) is None


@given(st.binary(max_size=100), st.binary(max_size=100), st.integers())
def test_what_was_not_sealed_so_is_refused(content: bytes, unwrapped: bytes, region_bytes: int) -> None:
    envelope = Envelope(key_id="file:key", algorithm="A256KW", wrapped_key=b"", region_bytes=region_bytes)
    with pytest.raises((ValueError, InvalidTag)):
        envelope.opened(content, unwrapped)


@pytest.mark.parametrize("version", [b"", b"1.0\0\0\0\0\0", b"2.1\0\0\0\0\0", b"2.0     "])
def test_a_content_key_that_was_wrapped_for_another_version_is_refused(version: bytes) -> None:
    envelope, content = sealed(b"pem", KEY)
    unwrapped = KEY.unwrap_key(envelope.wrapped_key, "A256KW")
    assert envelope.opened(content, unwrapped) == b"pem"
    with pytest.raises(ValueError, match="version 2"):
        envelope.opened(content, version + unwrapped[8:])


def test_content_of_more_regions_than_one_is_refused() -> None:
    envelope, content = sealed(b"pem", KEY)
    told = changed(json.loads(envelope.metadata()["encryptiondata"]), ("EncryptedRegionInfo", "DataLength"), 2)
    found = Envelope.of({"encryptiondata": json.dumps(told)})
    assert found is not None
    with pytest.raises(ValueError, match="one region"):
        found.opened(content, KEY.unwrap_key(envelope.wrapped_key, "A256KW"))
