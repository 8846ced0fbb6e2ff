"""PFX files as the openssl command writes them, old ciphers included."""

import shutil
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization

from shared.bundle import CertificateBundle
from tests.rigs.certificates import Issued, authority
from tests.rigs.opened import load_pfx

OPENSSL = shutil.which("openssl")
pytestmark = pytest.mark.skipif(OPENSSL is None, reason="the openssl command is not installed")

# -legacy alone: RC2 with 40 bits for the certificates and 3DES for the key, as Windows wrote them until 2019.
WAYS = {
    "AES": [],
    "AES-128 and SHA-512": ["-keypbe", "aes-128-cbc", "-certpbe", "aes-192-cbc", "-macalg", "sha512"],
    "3DES in PBES2": ["-keypbe", "des-ede3-cbc", "-certpbe", "des-ede3-cbc"],
    "old Windows": ["-legacy"],
    "3DES": ["-legacy", "-certpbe", "PBE-SHA1-3DES", "-macalg", "sha384"],
    "two-key 3DES and RC2-128": ["-legacy", "-keypbe", "PBE-SHA1-2DES", "-certpbe", "PBE-SHA1-RC2-128"],
    "no MAC": ["-nomac"],
    "old Windows without MAC": ["-legacy", "-nomac"],
    "one iteration": ["-legacy", "-iter", "1", "-nomaciter"],
    "MAC only": ["-keypbe", "NONE", "-certpbe", "NONE"],
    "nothing protected": ["-keypbe", "NONE", "-certpbe", "NONE", "-nomac"],
}


@pytest.fixture(scope="module")
def issued() -> Issued:
    return authority().intermediate().issue("www.example.com", key="rsa")


def exported(issued: Issued, folder: Path, password: str, options: list[str]) -> bytes:
    pem = folder / "bundle.pem"
    pem.write_bytes(issued.bundle().to_pem() + issued.root.public_bytes(serialization.Encoding.PEM))
    file = folder / "bundle.pfx"
    command = [OPENSSL or "", "pkcs12", "-export", "-in", str(pem), "-out", str(file), "-passout", "stdin", *options]
    done = subprocess.run(command, input=f"{password}\n".encode(), capture_output=True, check=False)
    if b"unsupported" in done.stderr or b"unknown option" in done.stderr.lower():
        pytest.skip("this openssl has no such cipher")
    assert done.returncode == 0, done.stderr
    return file.read_bytes()


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("password", ["secret", "", "pässwörd", "snow \N{SNOWMAN} man"])
def test_a_file_of_openssl_opens(issued: Issued, tmp_path: Path, way: str, password: str) -> None:
    file = exported(issued, tmp_path, password, WAYS[way])
    bundle = load_pfx(file, [password.encode()])
    assert bundle == issued.bundle()
    assert isinstance(bundle, CertificateBundle)
    assert bundle.key.private_numbers() == issued.key.private_numbers()  # type: ignore[union-attr]


@pytest.mark.parametrize("way", [way for way in WAYS if "NONE" not in WAYS[way]])
def test_a_file_of_openssl_does_not_open_with_another_password(issued: Issued, tmp_path: Path, way: str) -> None:
    file = exported(issued, tmp_path, "secret", WAYS[way])
    violations = load_pfx(file, [b"Secret", None])
    assert isinstance(violations, tuple)
    assert [violation.code for violation in violations] == ["unreadable_bundle"]
