"""Names of the algorithms that certcast does not read, and whether OpenSSL does: it then makes another file of it.

The identifiers are those of OpenSSL's crypto/objects/objects.txt. What OpenSSL reads, tests have it read.
"""

from __future__ import annotations

_CONVERTIBLE = {
    # Of PKCS#5 and PKCS#12, key and cipher in one
    "1.2.840.113549.1.5.3": "MD5 and DES (PBES1)",
    "1.2.840.113549.1.5.6": "MD5 and RC2 (PBES1)",
    "1.2.840.113549.1.5.10": "SHA-1 and DES (PBES1)",
    "1.2.840.113549.1.5.11": "SHA-1 and RC2 (PBES1)",
    "1.2.840.113549.1.12.1.1": "SHA-1 and RC4 with 128 bits",
    "1.2.840.113549.1.12.1.2": "SHA-1 and RC4 with 40 bits",
    # Ciphers for PBES2
    "1.3.14.3.2.7": "DES-CBC",
    "1.2.840.113549.3.2": "RC2-CBC",
    "1.2.392.200011.61.1.1.1.2": "Camellia-128-CBC",
    "1.2.392.200011.61.1.1.1.3": "Camellia-192-CBC",
    "1.2.392.200011.61.1.1.1.4": "Camellia-256-CBC",
    "1.2.410.200046.1.1.2": "ARIA-128-CBC",
    "1.2.410.200046.1.1.7": "ARIA-192-CBC",
    "1.2.410.200046.1.1.12": "ARIA-256-CBC",
    "1.2.410.200004.1.4": "SEED-CBC",
    "1.2.156.10197.1.104.2": "SM4-CBC",
    "1.3.6.1.4.1.3029.1.2": "Blowfish-CBC",
    "1.2.840.113533.7.66.10": "CAST5-CBC",
    "2.16.840.1.101.3.4.1.3": "AES-128-OFB",
    "2.16.840.1.101.3.4.1.4": "AES-128-CFB",
    "2.16.840.1.101.3.4.1.23": "AES-192-OFB",
    "2.16.840.1.101.3.4.1.24": "AES-192-CFB",
    "2.16.840.1.101.3.4.1.43": "AES-256-OFB",
    "2.16.840.1.101.3.4.1.44": "AES-256-CFB",
    # HMACs for PBKDF2
    "1.2.840.113549.2.6": "HMAC with MD5",
    "1.2.840.113549.2.12": "HMAC with SHA-512/224",
    "1.2.840.113549.2.13": "HMAC with SHA-512/256",
    # Hashes for the MAC
    "1.3.36.3.2.1": "RIPEMD-160",
    "1.2.156.10197.1.401": "SM3",
    "2.16.840.1.101.3.4.2.5": "SHA-512/224",
    "2.16.840.1.101.3.4.2.6": "SHA-512/256",
    "2.16.840.1.101.3.4.2.7": "SHA3-224",
    "2.16.840.1.101.3.4.2.8": "SHA3-256",
    "2.16.840.1.101.3.4.2.9": "SHA3-384",
    "2.16.840.1.101.3.4.2.10": "SHA3-512",
    "1.3.6.1.4.1.1722.12.2.1.16": "BLAKE2b",
    "1.3.6.1.4.1.1722.12.2.2.8": "BLAKE2s",
}
_OTHERS = {
    "1.2.840.113549.1.5.1": "MD2 and DES (PBES1)",
    "1.2.840.113549.1.5.4": "MD2 and RC2 (PBES1)",
    "1.2.840.113549.3.4": "RC4",
    "1.2.840.113549.3.9": "RC5-CBC",
    "1.3.6.1.4.1.188.7.1.1.2": "IDEA-CBC",
    "2.16.840.1.101.3.4.1.6": "AES-128-GCM",
    "2.16.840.1.101.3.4.1.26": "AES-192-GCM",
    "2.16.840.1.101.3.4.1.46": "AES-256-GCM",
    "2.16.840.1.101.3.4.1.7": "AES-128-CCM",
    "2.16.840.1.101.3.4.1.47": "AES-256-CCM",
    "1.2.840.113549.1.9.16.3.18": "ChaCha20-Poly1305",
    "1.2.643.2.2.21": "GOST 28147-89",
    "1.2.643.7.1.1.5.1.1": "GOST Magma (CTR-ACPKM)",
    "1.2.643.7.1.1.5.1.2": "GOST Magma (CTR-ACPKM-OMAC)",
    "1.2.643.7.1.1.5.2.1": "GOST Kuznyechik (CTR-ACPKM)",
    "1.2.643.7.1.1.5.2.2": "GOST Kuznyechik (CTR-ACPKM-OMAC)",
    "1.2.643.2.2.10": "HMAC with GOST R 34.11-94",
    "1.2.643.7.1.1.4.1": "HMAC with GOST R 34.11-2012 (256 bits)",
    "1.2.643.7.1.1.4.2": "HMAC with GOST R 34.11-2012 (512 bits)",
    "2.16.840.1.101.3.4.2.13": "HMAC with SHA3-224",
    "2.16.840.1.101.3.4.2.14": "HMAC with SHA3-256",
    "2.16.840.1.101.3.4.2.15": "HMAC with SHA3-384",
    "2.16.840.1.101.3.4.2.16": "HMAC with SHA3-512",
    "1.2.156.10197.1.401.2": "HMAC with SM3",
    "1.2.840.113549.2.2": "MD2",
    "1.2.840.113549.2.4": "MD4",
    "1.0.10118.3.0.55": "Whirlpool",
    "1.2.643.2.2.9": "GOST R 34.11-94",
    "1.2.643.7.1.1.2.2": "GOST R 34.11-2012 (256 bits)",
    "1.2.643.7.1.1.2.3": "GOST R 34.11-2012 (512 bits)",
}


def called(oid: str) -> str:
    """The algorithm's name with its identifier, or that alone."""
    name = _CONVERTIBLE.get(oid) or _OTHERS.get(oid)
    return f"{name} ({oid})" if name else f"an algorithm that is not known ({oid})"


def is_convertible(oid: str) -> bool:
    """Whether OpenSSL 3 reads it, with its legacy provider where need be."""
    return oid in _CONVERTIBLE
