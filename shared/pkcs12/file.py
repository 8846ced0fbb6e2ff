"""An untrusted PKCS#12 file (RFC 7292): its layers, and what those hold that are not encrypted, read at no cost.

Why not `cryptography`'s `load_pkcs12`, which hands the whole file to OpenSSL: how long a file takes to open is its
sender's choice, up to 2^31 iterations per layer. The counts of the outer layers can be read beforehand, but a
key hidden inside an encrypted layer carries a count that shows only once that layer is decrypted, and OpenSSL decrypts
both in one call without a way to interrupt it. So the layers are opened here one by one, each only after its count has
been added to the bill. That also yields every key of a file, where OpenSSL returns the first, and keeps hostile ASN.1
out of C.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from shared.pkcs12.asn1 import CONSTRUCTED, CONTEXT_0, INTEGER, OID, SEQUENCE, Asn1Error, Element, read
from shared.pkcs12.pbe import Encryption, Mac, read_encryption, read_mac

_DATA = "1.2.840.113549.1.7.1"
_ENCRYPTED_DATA = "1.2.840.113549.1.7.6"
_KEY_BAG = "1.2.840.113549.1.12.10.1.1"
_SHROUDED_KEY_BAG = "1.2.840.113549.1.12.10.1.2"
_CERTIFICATE_BAG = "1.2.840.113549.1.12.10.1.3"
_SAFE_CONTENTS_BAG = "1.2.840.113549.1.12.10.1.6"
_X509_CERTIFICATE = "1.2.840.113549.1.9.22.1"

_EXPLICIT_0 = CONTEXT_0 | CONSTRUCTED
_MAX_NESTED_SAFES = 4
_MAX_KEYS = 16
_MAX_CERTIFICATES = 256


class PublicKeyProtectedError(Asn1Error):
    """The file is protected by the key of a recipient, and no password opens it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """Something encrypted: a safe, or a PKCS#8 key."""

    encryption: Encryption
    data: bytes = field(repr=False)

    @property
    def cost(self) -> int:
        """What decrypting it costs, in steps."""
        return self.encryption.cost(self.data)


@dataclass(slots=True, kw_only=True)
class Bags:
    """What the safes read so far hold.

    Attributes:
        keys: Private keys, DER of PKCS#8, in file order; not yet parsed.
        shrouded: Private keys that are still encrypted.
        unread: Why further ones cannot be decrypted.
        certificates: DER, in file order, possibly repeated; not yet parsed.
    """

    keys: list[bytes] = field(default_factory=list, repr=False)
    shrouded: list[Layer] = field(default_factory=list)
    unread: list[ValueError] = field(default_factory=list)
    certificates: list[bytes] = field(default_factory=list)

    def add(self, safe_contents: bytes, depth: int = 0) -> None:
        """Read a SafeContents and sort its bags.

        Raises:
            Asn1Error: It is malformed.
        """
        for bag in read(safe_contents).expect(SEQUENCE).children():
            kind, value = bag.expect(SEQUENCE).children(OID, _EXPLICIT_0)[:2]
            match kind.oid():
                case oid if oid == _KEY_BAG:
                    self.keys.append(value.content)
                case oid if oid == _SHROUDED_KEY_BAG:
                    self._add_shrouded(value.content)
                case oid if oid == _CERTIFICATE_BAG:
                    form, certificate = read(value.content).expect(SEQUENCE).children(OID, _EXPLICIT_0)[:2]
                    if form.oid() == _X509_CERTIFICATE:
                        self.certificates.append(read(certificate.content).octets())
                case oid if oid == _SAFE_CONTENTS_BAG:
                    if depth == _MAX_NESTED_SAFES:
                        raise Asn1Error("its safes are nested too deeply")
                    self.add(value.content, depth + 1)
                case _:
                    pass  # revocation lists and other secrets are no business of a server certificate
        if len(self.keys) + len(self.shrouded) + len(self.unread) > _MAX_KEYS:
            raise Asn1Error(f"it has more than {_MAX_KEYS} private keys")
        if len(self.certificates) > _MAX_CERTIFICATES:
            raise Asn1Error(f"it has more than {_MAX_CERTIFICATES} certificates")

    def _add_shrouded(self, key: bytes) -> None:
        try:
            self.shrouded.append(_shrouded_key(read(key)))
        except Asn1Error as problem:
            self.unread.append(problem)  # another key may be the one that is wanted


@dataclass(frozen=True, slots=True, kw_only=True)
class Pkcs12:
    """A file's outer structure, read without any key derivation.

    Attributes:
        content: What the MAC is over.
        mac: None where the file has none.
        plain: The SafeContents that are not encrypted.
        encrypted: Those that are.
    """

    content: bytes = field(repr=False)
    mac: Mac | None
    plain: tuple[bytes, ...] = field(repr=False)
    encrypted: tuple[Layer, ...]

    @classmethod
    def parse(cls, file: bytes) -> Pkcs12:
        """Read the outer structure.

        Raises:
            Asn1Error: It is no password-based PKCS#12 file; the text is a clause that says why.
        """
        _version, authenticated, *mac_data = read(file).expect(SEQUENCE).children(INTEGER, SEQUENCE)
        kind, wrapped = authenticated.children(OID, _EXPLICIT_0)[:2]
        if kind.oid() != _DATA:
            raise PublicKeyProtectedError("it is signed with a private key, and not protected by a password")
        content = read(wrapped.content).octets()
        plain: list[bytes] = []
        encrypted: list[Layer] = []
        for safe in read(content).expect(SEQUENCE).children():
            kind, wrapped = safe.expect(SEQUENCE).children(OID, _EXPLICIT_0)[:2]
            if kind.oid() == _DATA:
                plain.append(read(wrapped.content).octets())
            elif kind.oid() == _ENCRYPTED_DATA:
                encrypted.append(_encrypted_safe(read(wrapped.content)))
            else:
                raise PublicKeyProtectedError("it is encrypted for a public key, and not by a password")
        mac = read_mac(mac_data[0]) if mac_data else None
        return cls(content=content, mac=mac, plain=tuple(plain), encrypted=tuple(encrypted))

    def visible(self) -> Bags:
        """What is not encrypted, with the keys that are.

        Raises:
            Asn1Error: It is malformed.
        """
        bags = Bags()
        for safe in self.plain:
            bags.add(safe)
        return bags


def _shrouded_key(key: Element) -> Layer:
    """EncryptedPrivateKeyInfo of PKCS#8 (RFC 5208 section 6)."""
    algorithm, *data = key.expect(SEQUENCE).children(SEQUENCE)
    if not data:
        raise Asn1Error("a value is missing")
    return Layer(encryption=read_encryption(algorithm), data=data[0].octets())


def _encrypted_safe(encrypted_data: Element) -> Layer:
    """EncryptedData of PKCS#7 (RFC 2315 section 13)."""
    _version, info = encrypted_data.expect(SEQUENCE).children(INTEGER, SEQUENCE)[:2]
    _kind, algorithm, *content = info.children(OID, SEQUENCE)
    if not content:
        raise Asn1Error("a value is missing")
    return Layer(encryption=read_encryption(algorithm), data=content[0].octets(CONTEXT_0))
