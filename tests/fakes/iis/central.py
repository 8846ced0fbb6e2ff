"""IIS's reading of a Centralized Certificate Store: the file of the name in letters, else that of its wildcard."""

from pathlib import Path

import idna
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import pkcs12

from shared.bundle import CertificateBundle
from shared.bundle.link import Link

MAX_NAME = 253
PASSWORD = "common password of the store"


def read_central(folder: Path, name: str) -> CertificateBundle | None:
    """The certificate that a handshake for the name is answered with."""
    if len(name) > MAX_NAME:
        return None
    letters = idna.decode(name) if "xn--" in name else name
    for file in (f"{letters}.pfx", f"_.{letters.partition('.')[2]}.pfx"):
        if (folder / file).is_file():
            return open_pfx(folder / file)
    return None


def open_pfx(path: Path) -> CertificateBundle:
    """A file of the store, opened with the common password."""
    key, leaf, chain = pkcs12.load_key_and_certificates(path.read_bytes(), PASSWORD.encode())
    assert leaf is not None
    assert isinstance(key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey)
    return CertificateBundle(leaf=leaf, chain=tuple(map(Link.of, chain)), key=key)
