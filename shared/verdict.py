"""The verdict codes, the codes of warnings, and the values that carry one."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from shared.codec import Word
from shared.phrasing import LOGGED_CHARS, shown

MAX_VIOLATIONS = 30
"""Of one upload: a file may hold hundreds of certificates with a fault each."""
MAX_WARNINGS = 10
"""Of one upload, likewise."""


class VerdictCode(Word):
    """Why an upload is not, or not yet, served. Stable: other tools build on these words (docs/verdicts.md)."""

    UNREADABLE_BUNDLE = "unreadable_bundle"
    TOO_LARGE = "too_large"
    KDF_TOO_EXPENSIVE = "kdf_too_expensive"
    NO_PRIVATE_KEY = "no_private_key"
    NO_CERTIFICATE = "no_certificate"
    AMBIGUOUS_LEAF = "ambiguous_leaf"
    KEY_MISMATCH = "key_mismatch"
    MALFORMED_CERTIFICATE = "malformed_certificate"
    WEAK_KEY = "weak_key"
    WEAK_SIGNATURE = "weak_signature"
    EXPIRED = "expired"
    NOT_YET_VALID = "not_yet_valid"
    NOT_A_SERVER_CERTIFICATE = "not_a_server_certificate"
    HOST_NOT_COVERED = "host_not_covered"
    INVALID_HOST = "invalid_host"
    TOO_MANY_HOSTS = "too_many_hosts"
    INVALID_PORT = "invalid_port"
    SUBJECT_MISMATCH = "subject_mismatch"
    INCOMPLETE_CHAIN = "incomplete_chain"
    UNTRUSTED_CHAIN = "untrusted_chain"
    OLDER_THAN_LIVE = "older_than_live"
    INVALID_METADATA = "invalid_metadata"
    PASSWORD_SECRET_UNAVAILABLE = "password_secret_unavailable"  # noqa: S105 - a verdict's name
    NOT_ALLOWED = "not_allowed"
    TOO_MANY_CLAIMS = "too_many_claims"


NOTICES = frozenset({VerdictCode.NOT_YET_VALID, VerdictCode.OLDER_THAN_LIVE})
"""Codes that explain an accepted upload (`scheduled`, `superseded`) rather than reject it."""


class WarningCode(Word):
    """What an uploader should know of an upload although it is, or would be, served. Stable as the verdicts are."""

    UNKNOWN_METADATA = "unknown_metadata"
    BASE64_TEXT = "base64_text"
    PASSWORD_SPELLING = "password_spelling"  # noqa: S105 - a warning's name
    IGNORED_KEY = "ignored_key"
    MALFORMED_INTERMEDIATE = "malformed_intermediate"
    UNUSABLE_NAME = "unusable_name"
    MUST_STAPLE = "must_staple"
    WEAK_AUTHORITY = "weak_authority"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Finding:
    """A code for programs and a sentence for people.

    Attributes:
        code: Stable.
        detail: What was found and what was expected, naming the host, certificate or metadata key; no secret. Fit to be
            shown, whatever it quotes.
    """

    code: StrEnum
    detail: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "detail", shown(self.detail, LOGGED_CHARS))

    def to_json(self) -> dict[str, str]:
        """The form used in `--json` output, rows and events."""
        return {"code": self.code.value, "detail": self.detail}


@dataclass(frozen=True, slots=True, kw_only=True)
class Violation(_Finding):
    """One reason why an upload is not served, or not yet."""

    code: VerdictCode

    @property
    def rejects(self) -> bool:
        """Whether this reason alone keeps the upload from being accepted."""
        return self.code not in NOTICES


@dataclass(frozen=True, slots=True, kw_only=True)
class Caution(_Finding):
    """One warning, which keeps nothing from being served."""

    code: WarningCode


class Decided:
    """What follows from the reasons against an upload, and from whether it holds a bundle at all."""

    __slots__ = ()

    violations: tuple[Violation, ...]
    bundle: object

    @property
    def accepted(self) -> bool:
        """Whether it will be served, now or when it becomes valid."""
        return self.bundle is not None and not any(violation.rejects for violation in self.violations)

    @property
    def scheduled(self) -> bool:
        """Whether it is accepted, but not to be served before its notBefore."""
        return self.accepted and any(violation.code is VerdictCode.NOT_YET_VALID for violation in self.violations)
