"""The openssl commands of docs/verdicts.md, run as they are written; what they make `certcast check` accepts."""

import base64
import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from shared.bundle import PrivateKey
from tests.docs.shown import lines_of, run_here
from tests.rigs.certificates import Issued, authority
from tests.rigs.command_line import clean_environment
from tests.rigs.pages import VERDICTS, prose_of
from tests.rigs.programs import needs

CHECK = run_here(VERDICTS, "certcast check shop.pfx ")
TRY_THE_PASSWORD = run_here(VERDICTS, "openssl pkcs12 -info ")
FEWER_ITERATIONS = run_here(VERDICTS, "openssl pkcs12 -in shop.pfx -nodes -out shop.pem ")
PUT_TOGETHER = run_here(VERDICTS, "openssl pkcs12 -export -in cert.pem ", alike=True)
TAKE_APART = run_here(VERDICTS, "openssl pkcs12 -in shop.pfx -nodes -out all.pem ")
FIND_THE_PAIR = run_here(VERDICTS, "openssl x509 -in cert.pem -noout -pubkey ")
NEW_KEY = run_here(VERDICTS, "openssl req -new ")
SELF_SIGNED = run_here(VERDICTS, "openssl req -x509 ")
DECODE = run_here(VERDICTS, "base64 -d ")
COVERS = run_here(VERDICTS, "openssl x509 -in cert.pem -noout -ext ")
VERIFY = run_here(VERDICTS, "openssl verify ")

HOST, PASSWORD = "www.example.com", "secret"
ROOT = authority()
CA = ROOT.intermediate()

pytestmark = [needs("openssl", "bash"), pytest.mark.skipif(os.name == "nt", reason="the blocks are for a POSIX shell")]


@dataclass(frozen=True, slots=True, kw_only=True)
class Desk:
    """A folder with the files that the commands name.

    Attributes:
        folder: The folder.
        issued: What is in `cert.pem`, `key.pem`, `intermediates.pem` and `shop.pfx`.
    """

    folder: Path
    issued: Issued

    def run(self, script: str) -> list[str]:
        """Run each command of a block, and answer what each says; whatever asks for a password is told it.

        Without a terminal openssl asks on stdin, of which each reads more than it needs: so they run one at a time.
        """
        return [self._run(command) for line in lines_of(script) for command in line.split(" && ")]

    def _run(self, line: str) -> str:
        own = str(Path(sys.executable).parent)
        settings = clean_environment(SSL_CERT_FILE=str(self.folder / "root.pem"))
        ran = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", line],
            cwd=self.folder,
            env=settings | {"PATH": os.pathsep.join([own, settings["PATH"]])},
            input=f"{PASSWORD}\n" * 4,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
            start_new_session=True,
        )
        assert ran.returncode == 0, f"{line}\n{ran.stdout}{ran.stderr}"
        return ran.stdout

    def check(self, *, trust: str = "root.pem") -> dict[str, Any]:
        """What `certcast check` says of `shop.pfx`; the page's own command, with what a test needs beside it."""
        [line] = lines_of(CHECK)
        said: dict[str, Any] = json.loads(self._run(f"{line} --json --trust {trust} || true"))
        return said

    def codes(self) -> list[str]:
        return [violation["code"] for violation in self.check()["violations"]]

    def write(self, name: str, *certificates: x509.Certificate, key: PrivateKey | None = None) -> None:
        """Write PEM."""
        parts = [certificate.public_bytes(Encoding.PEM) for certificate in certificates]
        if key is not None:
            parts.append(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        (self.folder / name).write_bytes(b"".join(parts))

    def write_parts(self, issued: Issued) -> None:
        self.write("cert.pem", issued.certificate)
        self.write("key.pem", key=issued.key)
        self.write("intermediates.pem", *issued.chain)


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    made = Desk(folder=tmp_path, issued=CA.issue(HOST))
    made.write_parts(made.issued)
    made.write("root.pem", ROOT.certificate)
    (tmp_path / "shop.pfx").write_bytes(made.issued.pfx(PASSWORD))
    (tmp_path / "password.txt").write_text(f"{PASSWORD}\n", encoding="utf-8")
    return made


def test_a_file_is_tried_before_it_is_uploaded(desk: Desk) -> None:
    assert desk.run(CHECK.rstrip() + " --trust root.pem")[0].startswith("accepted: www.example.com:443\n")


def test_a_password_is_tried_and_the_file_exported_again(desk: Desk) -> None:
    (desk.folder / "shop.pfx").write_bytes(desk.issued.pfx("another"))
    assert desk.codes() == ["unreadable_bundle"]
    look, _, export = lines_of(TRY_THE_PASSWORD)
    with pytest.raises(AssertionError, match="invalid password"):
        desk.run(look)
    desk.run(export)
    desk.run(look)
    assert desk.check()["accepted"]


def test_a_file_that_only_openssl_reads_is_converted(desk: Desk) -> None:
    rc4 = "-legacy -keypbe PBE-SHA1-RC4-128 -certpbe PBE-SHA1-RC4-128"
    desk.run(f"{PUT_TOGETHER.rstrip()} {rc4}")
    assert desk.codes() == ["unreadable_bundle"]
    desk.run(lines_of(TRY_THE_PASSWORD)[1])
    assert not (desk.folder / "all.pem").exists()
    (desk.folder / "new.pfx").replace(desk.folder / "shop.pfx")
    assert desk.check()["accepted"]


def test_base64_text_is_decoded(desk: Desk) -> None:
    (desk.folder / "shop.txt").write_bytes(base64.b64encode((desk.folder / "shop.pfx").read_bytes()))
    (desk.folder / "shop.pfx").unlink()
    desk.run(DECODE)
    assert desk.check()["accepted"]


def test_a_file_with_too_many_iterations_is_exported_again_with_fewer(desk: Desk) -> None:
    desk.run(f"{PUT_TOGETHER.rstrip()} -iter 1100000")
    assert desk.codes() == ["kdf_too_expensive"]
    desk.run(FEWER_ITERATIONS)
    assert desk.check()["accepted"]


def test_a_key_and_certificates_are_put_together(desk: Desk) -> None:
    (desk.folder / "shop.pfx").unlink()
    desk.run(PUT_TOGETHER)
    said = desk.check()
    assert (said["accepted"], said["fingerprint_sha256"]) == (True, desk.issued.fingerprint)


def test_of_several_certificates_the_wanted_one_is_exported(desk: Desk) -> None:
    renewal = CA.issue(HOST, key=desk.issued.key)
    both = desk.issued.pfx(PASSWORD, others=[renewal.certificate, *desk.issued.chain])
    (desk.folder / "shop.pfx").write_bytes(both)
    assert desk.codes() == ["ambiguous_leaf"]
    take_apart, export = lines_of(TAKE_APART)
    desk.run(take_apart)
    # What a person then does in an editor.
    parts = (desk.folder / "all.pem").read_bytes()
    assert renewal.certificate in x509.load_pem_x509_certificates(parts)
    desk.write("wanted.pem", renewal.certificate)
    [key] = re.findall(rb"-----BEGIN PRIVATE KEY-----.*?-----END PRIVATE KEY-----\n", parts, re.DOTALL)
    (desk.folder / "wanted-key.pem").write_bytes(key)
    desk.run(export)
    said = desk.check()
    assert (said["accepted"], said["fingerprint_sha256"]) == (True, renewal.fingerprint)


def test_a_pair_of_certificate_and_key_is_found(desk: Desk) -> None:
    certificate, key = desk.run(FIND_THE_PAIR)
    assert certificate == key
    desk.write("key.pem", key=CA.issue(HOST).key)
    certificate, other = desk.run(FIND_THE_PAIR)
    assert certificate != other


def test_a_new_key_is_made_and_a_certificate_asked_for(desk: Desk) -> None:
    desk.run(NEW_KEY)
    request = x509.load_pem_x509_csr((desk.folder / "request.csr").read_bytes())
    names = request.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    key = load_pem_private_key((desk.folder / "key.pem").read_bytes(), None)
    assert key.public_key() == request.public_key()
    issued = CA.issue(*names.get_values_for_type(x509.DNSName), key=key)  # type: ignore[arg-type]  # of an accepted kind
    desk.write("cert.pem", issued.certificate)
    desk.run(PUT_TOGETHER)
    assert desk.check()["accepted"]


def test_a_certificate_of_ones_own_is_one_for_servers(desk: Desk) -> None:
    desk.run(SELF_SIGNED)
    assert desk.check(trust="off")["accepted"]
    assert desk.check(trust="cert.pem")["accepted"]


def test_what_a_certificate_covers_is_shown(desk: Desk) -> None:
    assert f"DNS:{HOST}" in desk.run(COVERS)[0]


def test_a_chain_is_verified(desk: Desk) -> None:
    desk.write("roots.pem", ROOT.certificate)
    assert desk.run(VERIFY) == ["cert.pem: OK\n"]


WITHIN_SENTENCES = {
    "openssl x509 -in cert.pem -noout -dates": r"notBefore=.*\nnotAfter=.*\n",
    "openssl x509 -in cert.pem -noout -subject -nameopt RFC2253": rf"subject=CN={re.escape(HOST)}\n",
    "openssl ec -in key.pem -param_enc named_curve -out named.pem": r"",
}


@pytest.mark.parametrize("command", [*WITHIN_SENTENCES])
def test_a_command_within_a_sentence_says_what_it_is_there_for(desk: Desk, command: str) -> None:
    assert re.fullmatch(WITHIN_SENTENCES[command], desk.run(command)[0])


def test_these_are_all_commands_within_sentences() -> None:
    whole = {re.sub(r"\s+", " ", span) for span in re.findall(r"`(openssl [^`…]+)`", prose_of(VERDICTS))}
    assert {span for span in whole if " -in " in span or " verify " in span} == set(WITHIN_SENTENCES)
