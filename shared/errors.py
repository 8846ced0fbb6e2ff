"""The error taxonomy: what can go wrong around a certificate. Judgements about certificates are values, not errors."""

from __future__ import annotations

from typing import ClassVar


class CertcastError(Exception):
    """Base of every error certcast raises; its text is one sentence a person can act on and never holds a secret."""

    retriable: ClassVar[bool] = False
    """Whether doing the same thing again, later and unchanged, can succeed."""


class ConfigurationError(CertcastError):
    """A setting is missing or wrong; the text names the setting and the cure. Programs end with exit code 2."""


class ConflictError(CertcastError):
    """The row or blob was changed since it was read; read again and decide again."""

    retriable: ClassVar[bool] = True


class MissingError(CertcastError):
    """The row, blob or queue is not there."""


class UnavailableError(CertcastError):
    """A service did not answer or answered that it is busy."""

    retriable: ClassVar[bool] = True


class UnansweredError(UnavailableError):
    """Nothing answered: the service or the network is down, or the name is wrong."""


class BusyError(UnavailableError):
    """Too much of its kind is being done; it is done later."""


class ThrottledError(UnavailableError):
    """A receiver of events asks for a pause.

    Attributes:
        after_s: How long, in seconds.
    """

    def __init__(self, text: str, *, after_s: float) -> None:
        super().__init__(text)
        self.after_s = after_s


class RetiredError(CertcastError):
    """A receiver of events says that it wants no more of them."""


class NotSetUpError(UnavailableError):
    """A container or table that a deployment brings is not there, which says nothing about what is kept in it."""


class QueueBeingDeletedError(UnavailableError):
    """A queue of that name was deleted a moment ago: it can be made again when the service is done, after 40 s or more.

    (learn.microsoft.com, "Delete Queue (REST API)", remarks.)
    """


class UnsupportedError(CertcastError):
    """The account, or the state that a blob is in, does not allow it: trying again changes nothing."""


class HeldError(CertcastError):
    """The blob cannot be read or written as it is held: under a lease or an immutability policy, or in the archive."""


class AccessDeniedError(CertcastError):
    """The identity in use may not do this; the text names the operation and the role that allows it."""


class RefusedForNowError(AccessDeniedError):
    """A refusal that may pass by itself: a role assignment that is not in force yet, or an identity without a token."""

    retriable: ClassVar[bool] = True


class KeyUnusableError(RefusedForNowError):
    """A key in a vault was refused or is not there: disabled, deleted or not granted. Once it is, all goes on."""


class BrokenMessageError(CertcastError):
    """A queue message or an event does not have the form this version understands; it never will, so it is dropped."""


class BrokenRowError(CertcastError):
    """A stored row does not have the form this version understands; it is passed over and named."""


class BrokenBundleError(CertcastError):
    """A sealed bundle does not hold what its id, or the row that names it, says."""


class SecretUnavailableError(CertcastError):
    """A secret reference could not be resolved; the text names the vault and secret, never a value."""
