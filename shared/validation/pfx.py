"""Opening an uploaded PFX: its leaf, key and other certificates, or every reason why there is none."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from shared.pkcs12.asn1 import Asn1Error
from shared.pkcs12.file import Pkcs12, PublicKeyProtectedError
from shared.pkcs12.kdf import UnsupportedError
from shared.pkcs12.keys import MAX_RSA_BITS
from shared.pkcs12.opening import Contents, MixedPasswordsError, OtherPasswordError, TooExpensiveError, open_file
from shared.pkcs12.passwords import oddities
from shared.pkcs12.pbe import WrongPasswordError
from shared.validation.assembling import OpenedPfx, SlowKeyError, Unopened, assemble
from shared.validation.pairing import damaged
from shared.validation.recognising import Guise, pfx_in_text, recognise
from shared.verdict import Caution, VerdictCode, Violation, WarningCode

if TYPE_CHECKING:
    from collections.abc import Sequence

MAX_PFX_BYTES = 1_048_576
MAX_KDF_ITERATIONS = 2_000_000
"""In steps of PKCS#12's own derivation (`shared.pkcs12.kdf`), about a second of one processor.

OpenSSL's and Windows' files take 600,000 iterations at the most today: 1,200,000 steps for MAC, certificates and key.
"""

_CONVERT = (
    "`openssl pkcs12 -legacy -in FILE -nodes -out all.pem && openssl pkcs12 -export -in all.pem -out cert.pfx` (delete "
    "all.pem then, which holds the bare key)"
)
_EXPORT_WITH_AES = "Export it again with AES and HMAC-SHA-256, as OpenSSL, Windows and Java do today."


class _NoPfxError(Asn1Error):
    """The file is something else."""

    def __init__(self, guise: Guise) -> None:
        super().__init__(guise.what)
        self.guise = guise


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
    warnings: list[Caution] = []
    locked = False
    try:
        contents = open_file(_parsed(content, warnings), passwords, max_cost=max_kdf_iterations)
        warnings += _spelled(contents)
        opened = assemble(contents, max_checked_rsa_bits)
        return replace(opened, warnings=(*warnings, *opened.warnings))
    except SlowKeyError as problem:
        detail = (
            f"Checking an RSA key of {problem} bits takes too long: use one of 2048 to {max_checked_rsa_bits} bits."
        )
        against = Violation(code=VerdictCode.KDF_TOO_EXPENSIVE, detail=detail)
    except TooExpensiveError as problem:
        against = _too_expensive(problem.cost, max_kdf_iterations)
    except WrongPasswordError as problem:
        against = _unopened(passwords, problem)
        locked = not any(passwords) and not isinstance(problem, MixedPasswordsError)
    except Asn1Error as problem:
        against = _unreadable(problem)
    return Unopened(violations=(against,), warnings=tuple(warnings), locked=locked)


def holds_pfx(content: bytes) -> bool:
    """Whether a password could open the file: it is a PFX, or the text of one."""
    try:
        _parsed(content, [])
    except Asn1Error:
        return False
    return True


def _parsed(content: bytes, warnings: list[Caution]) -> Pkcs12:
    """The file, or the one that it holds as text; that is told.

    Raises:
        Asn1Error: It is none, or by an algorithm that is not read; `_NoPfxError` where something else is told of it.
    """
    try:
        return _read(content, content)
    except _NoPfxError:
        inner = pfx_in_text(content)
        if inner is None:
            raise
    file = _read(inner, content)
    detail = (
        "The file is base64 text of a PFX, and was taken for that: upload the PFX itself, which "
        "`base64 -d -i FILE > cert.pfx` makes of the text alone."
    )
    warnings.append(Caution(code=WarningCode.BASE64_TEXT, detail=detail))
    return file


def _read(content: bytes, uploaded: bytes) -> Pkcs12:
    try:
        return Pkcs12.parse(content)
    except (UnsupportedError, PublicKeyProtectedError):
        raise
    except Asn1Error as problem:
        raise _NoPfxError(recognise(uploaded, problem)) from None


def _spelled(contents: Contents) -> list[Caution]:
    if not contents.spelling:
        return []
    detail = (
        f"The file does not open with the password as RFC 7292 and RFC 8018 spell it, and was opened with it spelled "
        f"otherwise: {contents.spelling}. Other programs may refuse it: export it again, or with a password in ASCII."
    )
    return [Caution(code=WarningCode.PASSWORD_SPELLING, detail=detail)]


def _too_expensive(cost: int, limit: int) -> Violation:
    detail = (
        f"Opening the file takes key derivation (or RC2 decryption) worth {cost} iterations of SHA-1 or more, and "
        f"{limit} are the most that are done: export it again with fewer iterations, for example with "
        "`openssl pkcs12 -export -iter 10000`."
    )
    return Violation(code=VerdictCode.KDF_TOO_EXPENSIVE, detail=detail)


def _unopened(passwords: Sequence[bytes | None], problem: WrongPasswordError) -> Violation:
    if isinstance(problem, OtherPasswordError):
        detail = f"The file does not open with the password as it was given, but it does {problem}. {problem.cure}"
    elif isinstance(problem, MixedPasswordsError):
        detail = (
            "The file does not open: the password is the one of its MAC, but not of all that is encrypted in it. "
            "Export it again with one password for all."
        )
    else:
        odd = oddities(passwords)
        given = "the password given" if any(passwords) else "no password"
        which = "the password is wrong" if any(passwords) else "it has a password"
        detail = (
            f"The file does not open with {given}: almost certainly {which}, as the file's structure is whole. "
            f"{f'The password given has {odd}, which is hardly meant. ' if odd else ''}"
            f"{'Check' if any(passwords) else 'Set'} CertificatePassword; `openssl pkcs12 -info -noout -in FILE` asks "
            "for a password and says whether it is the one."
        )
    return Violation(code=VerdictCode.UNREADABLE_BUNDLE, detail=detail)


def _unreadable(problem: Asn1Error) -> Violation:
    match problem:
        case UnsupportedError():
            cure = f"OpenSSL makes another of it: {_CONVERT}." if problem.convertible else _EXPORT_WITH_AES
            return damaged(str(problem), cure)
        case PublicKeyProtectedError():
            return damaged(str(problem), "Export it again, protected by a password.")
        case _NoPfxError():
            return damaged(problem.guise.what, problem.guise.cure)
        case _:
            return damaged(str(problem))
