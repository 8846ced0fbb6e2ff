"""The key-encryption key in a file: who may read it, what it wraps, and what is said when it is no good."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.keywrap import InvalidUnwrap

from shared.errors import ConfigurationError
from shared.key_encryption import KEY_BYTES, FileKey, make_key_file, open_key, read_key_file


def key_file(folder: Path, content: bytes = bytes(range(KEY_BYTES)), mode: int = 0o600) -> Path:
    path = folder / "key"
    path.write_bytes(content)
    path.chmod(mode)
    return path


def test_what_was_wrapped_is_unwrapped_by_the_same_key_only(tmp_path: Path) -> None:
    key = read_key_file(key_file(tmp_path))
    content_key = os.urandom(32)
    wrapped = key.wrap_key(content_key)
    assert content_key not in wrapped
    assert key.unwrap_key(wrapped, "A256KW") == content_key
    other = read_key_file(key_file(tmp_path, os.urandom(KEY_BYTES)))
    with pytest.raises(InvalidUnwrap):
        other.unwrap_key(wrapped, "A256KW")


def test_the_wrapping_is_that_of_rfc_3394() -> None:
    """Section 4.6: wrap 256 bits of key data with a 256-bit key."""
    key = FileKey(Path("key"), bytes(range(32)))
    data = bytes.fromhex("00112233445566778899AABBCCDDEEFF000102030405060708090A0B0C0D0E0F")
    wrapped = "28C9F404C4B810F4CBCCB35CFB87F8263F5786E2D80ED326CBC7F0E71A99F43BFB988B9B7A02DD21"
    assert key.wrap_key(data).hex().upper() == wrapped


def test_another_algorithm_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="wrapped by RSA-OAEP-256, this key unwraps A256KW"):
        read_key_file(key_file(tmp_path)).unwrap_key(b"", "RSA-OAEP-256")


def test_a_key_is_named_without_its_folder_and_shows_nothing_of_itself(tmp_path: Path) -> None:
    key = read_key_file(key_file(tmp_path, b"k" * 32))
    assert key.get_kid() == "file:key"
    assert "kkk" not in repr(key)


def test_a_new_key_file_is_its_owners_alone_and_is_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "deeper" / "key"
    make_key_file(path)
    first = path.read_bytes()
    make_key_file(path)
    assert path.read_bytes() == first
    assert len(first) == KEY_BYTES
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    make_key_file(tmp_path / "other")
    assert (tmp_path / "other").read_bytes() != first


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o660, 0o602])
def test_a_key_file_that_others_may_open_is_refused_with_the_cure(tmp_path: Path, mode: int) -> None:
    path = key_file(tmp_path, mode=mode)
    with pytest.raises(ConfigurationError, match=f"chmod 600 {path}"):
        read_key_file(path)


@pytest.mark.parametrize("length", [0, 16, 31, 33, 64])
def test_a_key_file_of_another_length_is_refused(tmp_path: Path, length: int) -> None:
    path = key_file(tmp_path, b"k" * length)
    with pytest.raises(ConfigurationError, match=f"exactly 32 random bytes, it holds {length}") as caught:
        read_key_file(path)
    assert "kkk" not in str(caught.value)


def test_a_key_file_that_is_not_there_is_said_with_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"No such file .* /dev/urandom") as caught:
        read_key_file(tmp_path / "none")
    assert "CERTCAST_KEY_ENCRYPTION_KEY" in str(caught.value)


def test_the_setting_names_a_file_or_a_key_in_a_vault(tmp_path: Path) -> None:
    path = key_file(tmp_path)
    assert open_key(f"file:{path}", None).get_kid() == "file:key"
    for setting in ("key", str(path), "http://v.vault.azure.net/keys/k", "https://v.vault.azure.net/secrets/k", ""):
        with pytest.raises(ConfigurationError, match="must be a Key Vault key URL"):
            open_key(setting, None)
