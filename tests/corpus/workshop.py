"""What the inputs of the corpus are made of and with: one authority, one certificate, and the openssl command."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.rigs.certificates import Authority, Issued, authority
from tests.rigs.handmade_certificate import BASIC_CONSTRAINTS, KEY_USAGE, TRUE, Made, certificate, extension
from tests.rigs.handmade_pfx import certificate_bag, key_bag, pfx, plain_safe, sequence

HOST = "www.example.com"
SECRET = "secret"
QUICK = ("-iter", "1", "-nomaciter")


class Workshop:
    """Makes inputs in a folder of its own.

    Attributes:
        folder: Where its files are: key.pem, cert.pem, chain.pem, all.pem (key, certificate, intermediate).
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name, content in self._files().items():
            (folder / name).write_bytes(content)

    def _files(self) -> dict[str, bytes]:
        bundle = self.issued.bundle()
        pem = serialization.Encoding.PEM
        chain = b"".join(each.public_bytes(pem) for each in self.issued.chain)
        certificate = self.issued.certificate.public_bytes(pem)
        return {
            "key.pem": bundle.key_pem(),
            "cert.pem": certificate,
            "chain.pem": chain,
            "all.pem": bundle.key_pem() + certificate + chain,
            "secret.txt": SECRET.encode(),
        }

    @cached_property
    def root(self) -> Authority:
        """The authority that `Row.trusts` means."""
        return authority("Corpus root")

    @cached_property
    def old_root(self) -> Made:
        """Another that it means: of a private authority as EasyRSA made them, nothing in it critical."""
        return certificate(
            extension(BASIC_CONSTRAINTS, sequence(TRUE)), extension(KEY_USAGE, b"\x03\x02\x01\x06"), subject="Old root"
        )

    def above(self) -> Made:
        """The authority as one that signs what no library writes."""
        root = self.root
        assert isinstance(root.key, ec.EllipticCurvePrivateKey)
        der = root.certificate.public_bytes(serialization.Encoding.DER)
        return Made(der=der, name=root.certificate.subject.public_bytes(), private=b"", key=root.key)

    @cached_property
    def intermediate(self) -> Authority:
        """The one below it that issues."""
        return self.root.intermediate("Corpus issuing CA")

    @cached_property
    def issued(self) -> Issued:
        """A server certificate on P-256 as it should be."""
        return self.intermediate.issue(HOST)

    @cached_property
    def good(self) -> bytes:
        """It as PFX, in AES-256 under the usual password."""
        return self.export()

    @cached_property
    def bare(self) -> tuple[bytes, ...]:
        """Its bags without encryption: key, leaf, intermediate."""
        return (key_bag(self.issued.key), *map(certificate_bag, (self.issued.certificate, *self.issued.chain)))

    def plain(self, *bags: bytes) -> bytes:
        """A PFX without MAC and encryption that holds these bags, by default the good ones."""
        return pfx(plain_safe(*(bags or self.bare)))

    def run(self, *command: str, given: bytes = b"") -> bytes:
        """What a command prints, run in the folder."""
        done = subprocess.run(command, input=given, cwd=self.folder, capture_output=True, check=False)
        assert done.returncode == 0, (command, done.stderr.decode(errors="replace"))
        return done.stdout

    def export(
        self, *options: str, password: str | bytes = SECRET, source: str = "all.pem", quick: Sequence[str] = QUICK
    ) -> bytes:
        """What `openssl pkcs12 -export` makes, by default of key, certificate and intermediate."""
        line = (password.encode() if isinstance(password, str) else password) + b"\n"
        out = self.folder / "exported"
        self.run(
            *("openssl", "pkcs12", "-export", "-in", source, "-out", "exported", "-passout", "stdin"),
            *quick,
            *options,
            given=line,
        )
        return out.read_bytes()

    def file(self, content: bytes, name: str = "input") -> str:
        """The name of a file with this content."""
        (self.folder / name).write_bytes(content)
        return name

    def opens(self, content: bytes, password: str | None) -> bool:
        """Whether OpenSSL opens a file with a password."""
        done = subprocess.run(
            ["openssl", "pkcs12", "-legacy", "-in", self.file(content), "-nodes", "-out", "opened", "-passin", "stdin"],
            input=(password or "").encode() + b"\n",
            cwd=self.folder,
            capture_output=True,
            check=False,
        )
        return done.returncode == 0
