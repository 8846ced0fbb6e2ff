"""The private keys of a file: those that can be used, and why the others cannot."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from shared.bundle import PrivateKey
from shared.phrasing import listed
from shared.pkcs12.keys import UnfitKeyError, load_private_key
from shared.verdict import Caution, VerdictCode, Violation, WarningCode

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shared.pkcs12.opening import Contents


def damaged(reason: str, cure: str = "Export it again, and upload the whole file as it is.") -> Violation:
    """Say of a file that it is no PFX, or a broken one.

    Args:
        reason: A clause.
        cure: Sentences that say what to do.
    """
    detail = f"The file is not a PKCS#12 (PFX) file that can be read: {reason}. {cure}"
    return Violation(code=VerdictCode.UNREADABLE_BUNDLE, detail=detail)


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedKeys:
    """The distinct private keys of one file.

    Attributes:
        usable: By their PKCS#8 DER, in file order; an RSA key's numbers are not checked yet.
        unfit: Why others were not loaded, as in "is of a type": their kind or size.
        broken: Why further ones could not be, likewise: damage, or their encryption.
    """

    usable: dict[bytes, PrivateKey] = field(repr=False)
    unfit: tuple[str, ...]
    broken: tuple[str, ...]

    @classmethod
    def of(cls, contents: Contents) -> LoadedKeys:
        """Load them, whatever they are."""
        usable: dict[bytes, PrivateKey] = {}
        unfit: list[str] = []
        broken = list(contents.unread)
        for der in dict.fromkeys(contents.keys):
            try:
                usable[der] = load_private_key(der, check=False)
            except UnfitKeyError as problem:
                unfit.append(str(problem))
            except ValueError as problem:
                broken.append(str(problem))
        return cls(usable=usable, unfit=tuple(unfit), broken=tuple(broken))

    def objections(self, mismatch: Violation) -> list[Violation]:
        """Every reason why no certificate has its key here.

        Args:
            mismatch: What is said where keys could be used.
        """
        found = [mismatch] if self.usable else []
        for reason in dict.fromkeys(self.unfit):
            detail = f"The private key {reason}: use RSA with 2048 bits or more, or EC on P-256, P-384 or P-521."
            found.append(Violation(code=VerdictCode.WEAK_KEY, detail=detail))
        return [*found, *(damaged(f"a private key in it {reason}") for reason in dict.fromkeys(self.broken))]

    def ignored(self, used: bytes) -> Sequence[Caution]:
        """Tell of the keys beside the one that is used."""
        others = [
            *("belongs to no certificate in the file" for der in self.usable if der != used),
            *self.unfit,
            *self.broken,
        ]
        if not others:
            return ()
        reasons = list(dict.fromkeys(others))
        detail = (
            f"Another private key in the file is ignored: it {reasons[0]}."
            if len(others) == 1
            else f"{len(others)} other private keys in the file are ignored: one {listed(reasons, '; one ')}."
        )
        return (Caution(code=WarningCode.IGNORED_KEY, detail=detail),)
