"""Opening a PKCS#12 file with passwords: its keys and certificates as DER, within a bounded cost."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from shared.pkcs12.asn1 import SEQUENCE, Asn1Error, read
from shared.pkcs12.file import Bags, Layer, Pkcs12
from shared.pkcs12.kdf import UnsupportedError
from shared.pkcs12.passwords import Password, respellings, spellings
from shared.pkcs12.pbe import WrongPasswordError

if TYPE_CHECKING:
    from collections.abc import Sequence


class TooExpensiveError(ValueError):
    """Opening the file would take more work than allowed.

    Attributes:
        cost: What it asks for, as far as it was seen, in steps (`kdf`).
    """

    def __init__(self, cost: int) -> None:
        super().__init__(cost)
        self.cost = cost


class OtherPasswordError(WrongPasswordError):
    """The file opens with a password that is not the one given; the text is a clause that says how it differs.

    Attributes:
        cure: What to do about it.
    """

    def __init__(self, password: Password) -> None:
        super().__init__(password.said)
        self.cure = password.cure


class MixedPasswordsError(WrongPasswordError):
    """The password fits the file's MAC, but not all that is encrypted in it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """What an opened file holds.

    Attributes:
        keys: Private keys, DER of PKCS#8, in file order; not yet parsed.
        certificates: DER, in file order, possibly repeated; not yet parsed.
        unread: What is wrong with further private keys, as in "is encrypted by"; only where others could be decrypted.
        spelling: How the password was spelled that opened it, as a clause; empty where it was as it was given.
    """

    keys: tuple[bytes, ...] = field(repr=False)
    certificates: tuple[bytes, ...]
    unread: tuple[str, ...] = ()
    spelling: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Opened:
    """What one password opens."""

    bags: Bags
    spelling: str

    @property
    def is_whole(self) -> bool:
        """Whether no other password could open more."""
        return not any(isinstance(problem, WrongPasswordError) for problem in self.bags.unread)

    def contents(self) -> Contents:
        """The same as a value.

        Raises:
            ValueError: There are private keys, and none could be decrypted; the first reason why.
        """
        bags = self.bags
        if bags.unread and not bags.keys:
            raise bags.unread[0]
        return Contents(
            keys=tuple(bags.keys),
            certificates=tuple(bags.certificates),
            unread=tuple(map(_wrong, bags.unread)),
            spelling=self.spelling,
        )


def _wrong(problem: ValueError) -> str:
    """What is wrong with a key that could not be decrypted."""
    known = isinstance(problem, UnsupportedError | WrongPasswordError)
    return str(problem).removeprefix("it ") if known else "is damaged"


@dataclass(slots=True)
class _Bill:
    """The steps taken so far; a layer is put on it before its key is derived."""

    limit: int
    steps: int = 0

    def add(self, steps: int) -> None:
        self.steps += steps
        if self.steps > self.limit:
            raise TooExpensiveError(self.steps)


def open_file(file: Pkcs12, passwords: Sequence[bytes | None], *, max_cost: int) -> Contents:
    """Decrypt everything with the first password that fits.

    Where none does, other spellings of them are tried (`respellings`), as far as the allowed steps go.

    Args:
        file: Untrusted.
        passwords: Those to try, UTF-8; None and an empty one are both tried as absent and as empty.
        max_cost: Steps allowed in total, over all layers and passwords.

    Raises:
        TooExpensiveError: That does not suffice. Nothing was derived yet, unless only a decrypted layer showed it.
        WrongPasswordError: No password fits, or the file is damaged; `OtherPasswordError` where one with other
            characters fits, `MixedPasswordsError` where one fits the MAC alone.
        Asn1Error: It is malformed inside.
    """
    once = sum(layer.cost for layer in (*file.encrypted, *file.visible().shrouded))
    tried = spellings(passwords)
    # With a MAC, a wrong password costs its derivation alone; without one, each may cost every layer.
    expected = once + len(tried) * file.mac.cost if file.mac else len(tried) * once
    if expected > max_cost:
        raise TooExpensiveError(expected)
    attempts = _Attempts(file, _Bill(max_cost))
    if any(map(attempts.opens, tried)):
        return attempts.best()
    for password in respellings(passwords):
        if attempts.cost_of(password, once) <= max_cost - attempts.bill.steps and attempts.opens(password):
            break
    return attempts.best()


@dataclass(slots=True)
class _Attempts:
    """Passwords tried on one file, and the best that came of it."""

    file: Pkcs12
    bill: _Bill
    _verified: dict[bytes, bool] = field(default_factory=dict, repr=False)
    _best: _Opened | None = None

    def cost_of(self, password: Password, once: int) -> int:
        """What trying one costs at the most, in steps, as far as it can be seen."""
        mac = self.file.mac
        if mac is None:
            return once
        derived = 0 if mac.key.material(password) in self._verified else mac.cost
        return derived + (0 if password.cure else once)

    def opens(self, password: Password) -> bool:
        """Try one; what it opens is kept if that is more than was opened before.

        Returns:
            Whether no other need be tried.

        Raises:
            OtherPasswordError: It fits, and is not the one that was given.
        """
        if not self._fits(password):
            return False
        if self.file.mac is not None and password.cure:
            raise OtherPasswordError(password)
        try:
            opened = _Opened(bags=self._decrypted(password), spelling=password.said)
        except WrongPasswordError:
            return False
        except Asn1Error:
            # Noise that unpads by chance does not parse, so that without a MAC this, too, is a wrong password.
            if self.file.mac is not None:
                raise
            return False
        keys = -1 if self._best is None else len(self._best.bags.keys)
        if password.cure:
            if opened.is_whole and keys <= 0:
                raise OtherPasswordError(password)
            return False
        if len(opened.bags.keys) > keys:
            self._best = opened
        return opened.is_whole

    def best(self) -> Contents:
        """What most was opened.

        Raises:
            WrongPasswordError, Asn1Error: Nothing was, or no private key.
        """
        if self._best is not None and (self._best.bags.keys or self._best.is_whole):
            return self._best.contents()
        raise MixedPasswordsError if any(self._verified.values()) else WrongPasswordError

    def _fits(self, password: Password) -> bool:
        mac = self.file.mac
        if mac is None:
            return True
        material = mac.key.material(password)
        if material not in self._verified:
            self.bill.add(mac.cost)
            self._verified[material] = mac.verifies(password, self.file.content)
        return self._verified[material]

    def _proves(self, password: Password, layer: Layer) -> bool:
        """Whether a MAC that verifies proves the layer's key: only where both are derived from the same octets.

        The MAC of most files takes the password in UTF-16, and PBES2 in UTF-8 or what a program took for it.
        """
        mac = self.file.mac
        return mac is not None and mac.key.material(password) == layer.encryption.key.material(password)

    def _decrypted(self, password: Password) -> Bags:
        """Decrypt all, once the password is known to fit or nothing can tell.

        Raises:
            WrongPasswordError, Asn1Error: A safe does not decrypt, or not to what belongs there.
        """
        bags = self.file.visible()
        for layer in self.file.encrypted:
            self.bill.add(layer.cost)
            safe = layer.encryption.decrypt(password, layer.data)
            if not self._proves(password, layer):
                _refuse_noise(safe)
            bags.add(safe)
        for layer in bags.shrouded:
            self.bill.add(layer.cost)
            try:
                key = layer.encryption.decrypt(password, layer.data)
                read(key).expect(SEQUENCE)
            except (WrongPasswordError, Asn1Error):
                bags.unread.append(WrongPasswordError())
            else:
                bags.keys.append(key)
        return bags


def _refuse_noise(safe: bytes) -> None:
    """What a wrong key decrypts to, where it unpads by chance: hardly ever it begins as a safe does.

    Raises:
        WrongPasswordError: It is.
    """
    try:
        read(safe).expect(SEQUENCE)
    except Asn1Error:
        raise WrongPasswordError from None
