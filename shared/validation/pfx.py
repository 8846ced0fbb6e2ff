"""Opening an uploaded PFX: its leaf, key and other certificates, or every reason why there is none."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shared.pkcs12.asn1 import Asn1Error
from shared.pkcs12.file import Pkcs12, TooExpensiveError
from shared.pkcs12.keys import MAX_RSA_BITS
from shared.pkcs12.pbe import WrongPasswordError
from shared.validation.assembling import OpenedPfx, SlowKeyError, Unopened, assemble, damaged
from shared.verdict import VerdictCode, Violation

if TYPE_CHECKING:
    from collections.abc import Sequence

MAX_PFX_BYTES = 1_048_576
MAX_KDF_ITERATIONS = 2_000_000
"""In steps of PKCS#12's own derivation (`shared.pkcs12.kdf`), about a second of one processor.

OpenSSL's and Windows' files take 600,000 iterations at the most today: 1,200,000 steps for MAC, certificates and key.
"""


def open_pfx(
    content: bytes,
    passwords: Sequence[bytes | None],
    *,
    max_bytes: int = MAX_PFX_BYTES,
    max_kdf_iterations: int = MAX_KDF_ITERATIONS,
    max_checked_rsa_bits: int = MAX_RSA_BITS,
) -> OpenedPfx | Unopened:
    """Open an uploaded PFX and find its leaf and key. Whatever the bytes are, nothing is raised.

    Args:
        content: The file, untrusted.
        passwords: Those to try, UTF-8; None is no password.
        max_bytes: Larger files are not looked at.
        max_kdf_iterations: Key derivation allowed in total, over all layers and passwords, in steps.
        max_checked_rsa_bits: A private RSA key with more is not checked, and the file too expensive.

    Returns:
        The bundle without a chain and what that is chosen from, or every reason why there is none.
    """
    if len(content) > max_bytes:
        detail = f"The file has {len(content)} bytes and {max_bytes} are the most that are read: upload the PFX alone."
        return Unopened(violations=(Violation(code=VerdictCode.TOO_LARGE, detail=detail),))
    try:
        contents = Pkcs12.parse(content).open(passwords, max_cost=max_kdf_iterations)
        return assemble(contents, max_checked_rsa_bits)
    except SlowKeyError as problem:
        detail = (
            f"Checking an RSA key of {problem} bits takes too long: use one of 2048 to {max_checked_rsa_bits} bits."
        )
        against = Violation(code=VerdictCode.KDF_TOO_EXPENSIVE, detail=detail)
    except TooExpensiveError as problem:
        against = _too_expensive(problem.cost, max_kdf_iterations)
    except WrongPasswordError:
        against = _unopened(passwords)
    except Asn1Error as problem:
        against = _unreadable(content, problem)
    return Unopened(violations=(against,))


def _too_expensive(cost: int, limit: int) -> Violation:
    detail = (
        f"Opening the file takes key derivation (or RC2 decryption) worth {cost} iterations of SHA-1 or more, and "
        f"{limit} are the most that are done: export it again with fewer iterations, for example with "
        "`openssl pkcs12 -export -iter 10000`."
    )
    return Violation(code=VerdictCode.KDF_TOO_EXPENSIVE, detail=detail)


def _unopened(passwords: Sequence[bytes | None]) -> Violation:
    tried = "the password given" if any(passwords) else "no password"
    detail = (
        f"The file does not open with {tried}: the password is wrong or the file is damaged, which PKCS#12 cannot tell "
        "apart. Check CertificatePassword with `openssl pkcs12 -info -noout -in FILE`, then upload again."
    )
    return Violation(code=VerdictCode.UNREADABLE_BUNDLE, detail=detail)


def _unreadable(content: bytes, problem: Asn1Error) -> Violation:
    if content.lstrip().startswith(b"-----BEGIN "):
        return damaged(
            "it is PEM text", "Make a PFX of it: `openssl pkcs12 -export -in cert.pem -inkey key.pem -out cert.pfx`."
        )
    if content.startswith(b"MII"):
        return damaged("it looks like base64 text", "Decode it: `openssl base64 -d -A -in FILE -out cert.pfx`.")
    return damaged(str(problem))
