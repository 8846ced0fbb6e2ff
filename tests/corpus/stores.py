"""Files as keytool and the `cryptography` library write them."""

from __future__ import annotations

from functools import partial

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import NoEncryption, PrivateFormat, pkcs12

from tests.corpus.row import Row
from tests.corpus.workshop import HOST, SECRET, Workshop

_PBES = {
    "AES-256": pkcs12.PBES.PBESv2SHA256AndAES256CBC,
    "3DES": pkcs12.PBES.PBESv1SHA1And3KeyTripleDESCBC,
}
_MACS = {"SHA-1": hashes.SHA1(), "SHA-256": hashes.SHA256(), "SHA-512": hashes.SHA512()}  # noqa: S303 - as old files have


def _serialised(scheme: pkcs12.PBES, mac: hashes.HashAlgorithm, name: bytes | None, workshop: Workshop) -> bytes:
    builder = PrivateFormat.PKCS12.encryption_builder().kdf_rounds(1).key_cert_algorithm(scheme).hmac_hash(mac)
    issued = workshop.issued
    chain: list[x509.Certificate] = [*issued.chain, workshop.root.certificate]
    return pkcs12.serialize_key_and_certificates(
        name, issued.key, issued.certificate, chain, builder.build(SECRET.encode())
    )


def _bare(workshop: Workshop) -> bytes:
    issued = workshop.issued
    return pkcs12.serialize_key_and_certificates(None, issued.key, issued.certificate, issued.chain, NoEncryption())


def _trust_store(workshop: Workshop) -> bytes:
    return pkcs12.serialize_java_truststore(
        [pkcs12.PKCS12Certificate(workshop.root.certificate, b"root")],
        PrivateFormat.PKCS12.encryption_builder().kdf_rounds(1).build(SECRET.encode()),
    )


PASSWORD = "changeit"  # keytool takes none of fewer than six letters


def store(kind: str, workshop: Workshop, *options: str) -> bytes:
    """A keystore with a self-signed server certificate, as keytool makes it."""
    name = workshop.folder / f"made.{kind}"
    if not name.exists():
        workshop.run(
            *("keytool", "-genkeypair", "-alias", "shop", "-keyalg", "EC", "-groupname", "secp256r1"),
            *("-dname", f"CN={HOST}", "-ext", f"san=dns:{HOST}", "-validity", "30"),
            *("-storetype", kind, "-keystore", name.name, "-storepass", PASSWORD, "-keypass", PASSWORD),
            *options,
        )
    return name.read_bytes()


def _keystore(kind: str, workshop: Workshop) -> bytes:
    return store(kind, workshop)


UNREADABLE = ("unreadable_bundle",)

ROWS = (
    *(
        Row(
            name=f"cryptography: {cipher}, MAC {mac}, {'a' if name else 'no'} friendly name",
            make=partial(_serialised, scheme, digest, name),
            trusts=True,
            group="cryptography: AES-256 or 3DES, MAC SHA-1, SHA-256 or SHA-512, a friendly name or none",
        )
        for cipher, scheme in _PBES.items()
        for mac, digest in _MACS.items()
        for name in (None, b"shop")
    ),
    Row(name="cryptography: nothing encrypted", make=_bare, password=None, trusts=True),
    Row(name="cryptography: a trust store of Java", make=_trust_store, verdicts=("no_private_key",)),
    Row(name="keytool: PKCS12", make=partial(_keystore, "PKCS12"), password=PASSWORD),
    *(
        Row(
            name=f"keytool: {kind}",
            make=partial(_keystore, kind),
            password=PASSWORD,
            verdicts=UNREADABLE,
            says=(f"a Java keystore ({kind})", f"-srcstoretype {kind} -destkeystore cert.pfx -deststoretype PKCS12"),
            openssl=False,
        )
        for kind in ("JKS", "JCEKS")
    ),
)
