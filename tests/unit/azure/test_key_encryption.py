"""Key-encryption keys in files: who may read them, what they wrap, which opens, what is said when one is no good."""

import os
import stat
from pathlib import Path

import pytest
from azure.core.credentials import TokenCredential
from cryptography.hazmat.primitives.keywrap import InvalidUnwrap

from shared.azure.key_encryption import KEY_BYTES, FileKey, make_key_file, read_key_file
from shared.azure.key_ring import KeyRing, open_keys
from shared.azure.vault_url import VaultObject
from shared.errors import CertcastError, ConfigurationError

VAULT = "https://v.vault.azure.net"


def no_identity() -> TokenCredential:
    raise AssertionError("no vault is asked, so no identity is needed")


def opened(*parts: str) -> KeyRing:
    return open_keys(";".join(parts), no_identity)


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


class TestTheSetting:
    def test_it_names_a_file_or_a_key_in_a_vault(self, tmp_path: Path) -> None:
        path = key_file(tmp_path)
        assert opened(f"file:{path}").for_sealing().get_kid() == "file:key"
        for setting in (
            "key",
            str(path),
            "http://v.vault.azure.net/keys/k",
            f"{VAULT}/secrets/k",
            f"{VAULT}/keys",
            f"{VAULT}/keys/",
            f"{VAULT}/keys/k/v/more",
            f"{VAULT}/keys/k?api-version=7.4",
            "https:///keys/k",
            "https://v.vault.azure.net:port/keys/k",
            "",
            f"file:{path};https://v.vault.azure.net/secrets/k",
        ):
            with pytest.raises(ConfigurationError, match="must be a Key Vault key URL"):
                opened(setting)

    def test_of_several_files_the_first_seals_and_all_open(self, tmp_path: Path) -> None:
        new, old = tmp_path / "new key", tmp_path / "old; key"
        make_key_file(new)
        make_key_file(old)
        before = opened(f"file:{old}").for_sealing()
        wrapped = before.wrap_key(b"c" * 32)
        ring = opened(f"file:{new} ", f" file:{old}")
        assert ring.for_sealing().get_kid() == "file:new key"
        named = ring.named(before.get_kid())
        assert named.get_kid() == before.get_kid()
        assert named.unwrap_key(wrapped, "A256KW") == b"c" * 32
        fresh = ring.for_sealing().wrap_key(b"d" * 32)
        assert ring.named("file:new key").unwrap_key(fresh, "A256KW") == b"d" * 32
        with pytest.raises(InvalidUnwrap):
            opened(f"file:{new}").named(before.get_kid()).unwrap_key(wrapped, "A256KW")

    def test_a_file_that_was_renamed_still_opens_what_it_sealed(self, tmp_path: Path) -> None:
        path = key_file(tmp_path)
        sealing = opened(f"file:{path}").for_sealing()
        wrapped = sealing.wrap_key(b"c" * 32)
        make_key_file(tmp_path / "new" / "key")
        ring = opened(f"file:{tmp_path / 'new' / 'key'}", f"file:{path.rename(tmp_path / 'key.2024')}")
        assert ring.named(sealing.get_kid()).unwrap_key(wrapped, "A256KW") == b"c" * 32

    def test_the_first_of_a_file_and_a_vault_seals_whichever_it_is(self, tmp_path: Path) -> None:
        path = key_file(tmp_path)
        assert opened(f"file:{path}", f"{VAULT}/keys/k/v1").for_sealing().get_kid() == "file:key"

    def test_no_identity_is_made_before_a_vault_is_asked(self) -> None:
        ring = opened(f"{VAULT}/keys/k/v1")
        with pytest.raises(AssertionError, match="no vault is asked"):
            ring.for_sealing()

    @pytest.mark.parametrize(
        "key_id",
        [
            f"{VAULT}/keys/other/v1",
            "https://evil.test/keys/k/v1",
            "https://v.vault.azure.net.evil.test/keys/k/v1",
            "http://v.vault.azure.net/keys/k/v1",
            f"{VAULT}/keys/k/v1?next=https://evil.test",
            "https://user@evil.test/keys/k/v1",
            "file:key",
            "",
        ],
    )
    def test_what_storage_says_leads_to_no_key_but_the_settings(self, key_id: str) -> None:
        with pytest.raises(CertcastError, match="CERTCAST_KEY_ENCRYPTION_KEY does not name here") as caught:
            opened(f"{VAULT}/keys/k/v2").named(key_id)
        assert key_id in str(caught.value)
        assert not caught.value.retriable

    def test_a_vaults_key_needs_the_vault_to_be_set(self, tmp_path: Path) -> None:
        with pytest.raises(CertcastError, match=f"sealed under key {VAULT}/keys/k/v1, which"):
            opened(f"file:{key_file(tmp_path)}").named(f"{VAULT}/keys/k/v1")

    def test_vaults_and_keys_are_known_in_any_case(self) -> None:
        name = VaultObject.of("https://V.vault.azure.net:443/keys/Certcast/0a1B/", "keys")
        assert name == VaultObject(vault="v.vault.azure.net", name="certcast", version="0a1B")
