"""RC2 decryption of the certificates in PFX files of old Windows and OpenSSL; nothing else may use so weak a cipher.

`cryptography` has RC2 with 128-bit keys only, while those files use 40 bits. Only certificates, which are public, are
ever hidden this way by any known program.
"""

from __future__ import annotations

import struct

BLOCK_BYTES = 8

# RFC 2268 section 2: a fixed permutation of the octets, derived from the digits of pi.
_PI = bytes.fromhex(
    "d978f9c419ddb5ed28e9fd794aa0d89dc67e37832b76538e624c6488448bfba2"
    "179a59f587b34f1361456d8d09817d32bd8f40eb86b77b0bf09521225c6b4e82"
    "54d66593ce60b21c7356c014a78cf1dc1275ca1f3bbee4d1423dd430a33cb626"
    "6fbf0eda4669075727f21d9bbc944303f811c7f690ef3ee706c3d52fc8661ed7"
    "08e8eade8052eef784aa72ac354d6a2a961ad2715a1549744b9fd05e0418a4ec"
    "c2e0416e0f51cbcc2491af50a1f47039997c3a8523b8b47afc02365b25559731"
    "2d5dfa98e38a92ae05df2910676cbac9d300e6cfe19ea82c6316013f58e289a9"
    "0d38341bab33ffb0bb480c5fb9b1cd2ec5f3db47e5a59c770aa62068fe7fc1ad"
)
_SCHEDULE_BYTES = 128


def decrypt_cbc(key: bytes, iv: bytes, data: bytes) -> bytes:
    """Decrypt whole blocks in CBC mode with all the key's bits effective; the padding stays.

    Args:
        key: 5 to 128 octets.
        iv: 8 octets.
        data: A multiple of 8 octets.
    """
    schedule = _expand(key)
    plain = bytearray()
    previous = iv
    for offset in range(0, len(data), BLOCK_BYTES):
        block = data[offset : offset + BLOCK_BYTES]
        plain += bytes(a ^ b for a, b in zip(_decrypt_block(schedule, block), previous, strict=True))
        previous = block
    return bytes(plain)


def _expand(key: bytes) -> tuple[int, ...]:
    """RFC 2268 section 2, with an effective key length of all the key's bits."""
    octets = bytearray(key)
    for i in range(len(key), _SCHEDULE_BYTES):
        octets.append(_PI[(octets[i - 1] + octets[i - len(key)]) & 0xFF])
    first = _SCHEDULE_BYTES - len(key)
    octets[first] = _PI[octets[first]]
    for i in range(first - 1, -1, -1):
        octets[i] = _PI[octets[i + 1] ^ octets[i + len(key)]]
    return struct.unpack("<64H", octets)


def _decrypt_block(schedule: tuple[int, ...], block: bytes) -> bytes:
    """RFC 2268 section 4: sixteen mixing rounds backwards, with a mashing round after the fifth and the eleventh."""
    r = list(struct.unpack("<4H", block))
    j = 63
    for done in range(1, 17):
        for i, rotation in ((3, 5), (2, 3), (1, 2), (0, 1)):
            word = r[i] >> rotation | r[i] << (16 - rotation)
            r[i] = (word - schedule[j] - (r[i - 1] & r[i - 2]) - (~r[i - 1] & r[i - 3])) & 0xFFFF
            j -= 1
        if done in {5, 11}:
            for i in (3, 2, 1, 0):
                r[i] = (r[i] - schedule[r[i - 1] & 63]) & 0xFFFF
    return struct.pack("<4H", *r)
