"""The metadata of an uploaded blob: reading it and scrubbing it of the password."""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from shared.binding import ANY_ROLE, MAX_PORT
from shared.bundle import BUNDLE_ID
from shared.phrasing import shown
from shared.verdict import VerdictCode, Violation

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

BLOB_SCHEME = "blob"
FOLDER_SCHEME = "folder"
KEY_VAULT_SCHEME = "keyvault"
SQL_SCHEME = "sql"

DEFAULT_PORT = 443
SEALED_BUNDLE_KEY = "certcast_bundle"

_PASSWORD_KEY = "certificatepassword"  # noqa: S105 - a key's name
MAX_NAME_CHARS = 1024
"""Of a blob's name (learn.microsoft.com, "Naming and Referencing Containers, Blobs, and Metadata")."""

_HOST_SEPARATORS = re.compile(r"[,;\s]+")
_TRUE, _FALSE = "true", "false"
_DECIMAL = re.compile(r"[0-9]{1,9}\Z")
_PORTS = re.compile(r"([0-9]{1,5})(?:\s*-\s*([0-9]{1,5}))?\Z")
ROLE_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}\Z")
# What Microsoft.Web.Administration's SiteCollection.InvalidSiteNameCharacters refuses, and control characters.
_SITE = re.compile(r'[^\\/?;:@&=+$,|"<>*\x00-\x1f\x7f]{1,256}\Z')
_REFERENCE = re.compile(r"\s*@Microsoft\.KeyVault\(\s*SecretUri\s*=\s*(https://[^\s()]+)\s*\)\s*\Z", re.IGNORECASE)
_REFERENCE_START = re.compile(r"\s*@Microsoft\.KeyVault\b", re.IGNORECASE)
_CERTIFICATE_NAME = re.compile(r"(?:.*/)?[^/]+\.(?:pfx|p12)\Z", re.IGNORECASE)
_CANARY = re.compile(r"certcast-doctor-[0-9a-f]{32}\.pfx\Z")
_NEVER_IN_NAMES = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff\\]")


@dataclass(frozen=True, slots=True, kw_only=True)
class PortRanges:
    """PortNumbers that may be asked for.

    Attributes:
        ranges: First and last of each, both included.
    """

    ranges: tuple[tuple[int, int], ...] = ((DEFAULT_PORT, DEFAULT_PORT),)

    @classmethod
    def parse(cls, text: str) -> PortRanges:
        """Read numbers and ranges, `443, 8443, 9000-9010`.

        Raises:
            ValueError: One is none, or none is given; the text is a clause that says which.
        """
        parts = [part.strip() for part in text.split(",") if part.strip()]
        found = [(part, _PORTS.match(part)) for part in parts]
        ranges = [(int(match[1]), int(match[2] or match[1])) for _, match in found if match is not None]
        for part, match in found:
            if match is None or not 1 <= int(match[1]) <= int(match[2] or match[1]) <= MAX_PORT:
                raise ValueError(f"'{shown(part)}' is neither a number from 1 to {MAX_PORT} nor a range of them")
        if not ranges:
            raise ValueError("no port is named")
        return cls(ranges=tuple(sorted(set(ranges))))

    def __contains__(self, port: int) -> bool:
        return any(first <= port <= last for first, last in self.ranges)

    def __str__(self) -> str:
        return ", ".join(f"{first}" if first == last else f"{first}-{last}" for first, last in self.ranges)


USUAL_PORTS = PortRanges()


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadMetadata:
    """What the uploader wants done with the certificate.

    Attributes:
        hosts: As written; empty means the certificate's own names.
        port: TCP port to serve on.
        subject: The distinguished name the certificate must have; None for any.
        password: The PFX password, or a Key Vault reference to it; None where none was given.
        site: Web site on the target; None is its first.
        role: Only instances of this role install it; `*` for all.
        default: Whether it is also for clients that ask for no name, or for one that nothing else is served for.
        sealed_bundle: Bundle id that certcast wrote here in place of the password.
    """

    hosts: tuple[str, ...] = ()
    port: int = DEFAULT_PORT
    subject: str | None = None
    password: str | None = field(default=None, repr=False)
    site: str | None = None
    role: str = ANY_ROLE
    default: bool = False
    sealed_bundle: str | None = None


def parse_metadata(raw: Mapping[str, str]) -> tuple[UploadMetadata, tuple[Violation, ...]]:
    """Read a blob's metadata. A faulty value is reported and stands at its default; unknown keys are left alone.

    Args:
        raw: Keys in any case.
    """
    values = {key.lower(): value for key, value in raw.items()}
    violations: list[Violation] = []
    port = _port(values.get("portnumber", ""), violations)
    role = values.get("role", "").strip() or ANY_ROLE
    if role != ANY_ROLE and not ROLE_NAME.match(role):
        violations.append(_invalid("Role", role, "1 to 64 letters, digits, dots, hyphens and underscores, or *"))
        role = ANY_ROLE
    site = values.get("sitename", "").strip() or None
    if site is not None and not _SITE.match(site):
        violations.append(_invalid("SiteName", site, "1 to 256 characters that IIS allows in the name of a site"))
        site = None
    password = values.get(_PASSWORD_KEY)
    if password is not None and _REFERENCE_START.match(password) and password_reference(password) is None:
        detail = (
            "CertificatePassword is meant to be a Key Vault reference but is none: write "
            "@Microsoft.KeyVault(SecretUri=https://VAULT.vault.azure.net/secrets/NAME)."
        )
        violations.append(Violation(code=VerdictCode.INVALID_METADATA, detail=detail))
        password = None
    default = values.get("default", "").strip().lower() or _FALSE
    if default not in {_TRUE, _FALSE}:
        violations.append(_invalid("Default", values["default"], "true, or false, as where it is left out"))
    sealed = values.get(SEALED_BUNDLE_KEY, "")
    metadata = UploadMetadata(
        hosts=tuple(host for host in _HOST_SEPARATORS.split(values.get("hostheader", "")) if host),
        port=port,
        subject=values.get("certificatesubject", "").strip() or None,
        password=password,
        site=site,
        role=role,
        default=default == _TRUE,
        sealed_bundle=sealed if BUNDLE_ID.match(sealed) else None,
    )
    return metadata, tuple(violations)


def _port(text: str, violations: list[Violation]) -> int:
    digits = text.strip()
    if not digits:
        return DEFAULT_PORT
    if _DECIMAL.match(digits) and 1 <= int(digits) <= MAX_PORT:
        return int(digits)
    detail = (
        f"PortNumber is '{shown(digits)}': write a number from 1 to {MAX_PORT}, or leave it out for {DEFAULT_PORT}."
    )
    violations.append(Violation(code=VerdictCode.INVALID_PORT, detail=detail))
    return DEFAULT_PORT


def _invalid(key: str, value: str, allowed: str) -> Violation:
    return Violation(code=VerdictCode.INVALID_METADATA, detail=f"{key} is '{shown(value)}': write {allowed}.")


def password_reference(password: str) -> str | None:
    """The secret's URI in `@Microsoft.KeyVault(SecretUri=...)`; None where the password stands there itself.

    The form is App Service's (learn.microsoft.com, "Use Key Vault references").
    """
    reference = _REFERENCE.match(password)
    return reference.group(1) if reference else None


def carries_password(raw: Mapping[str, str]) -> bool:
    """Whether a password stands in an upload's metadata itself: a reference to one is none.

    Args:
        raw: Keys in any case.
    """
    return any(key.lower() == _PASSWORD_KEY and password_reference(value) is None for key, value in raw.items())


def scrubbed(raw: Mapping[str, str], bundle_id: str) -> dict[str, str]:
    """The metadata to leave on a processed blob: the sealed bundle's id in place of the password, all else kept."""
    kept = {key: value for key, value in raw.items() if key.lower() not in {_PASSWORD_KEY, SEALED_BUNDLE_KEY}}
    return kept | {SEALED_BUNDLE_KEY: bundle_id}


def is_certificate_name(name: str) -> bool:
    """Whether a blob of this name is an upload: it ends in .pfx or .p12, and is neither a folder nor a bare suffix.

    One that looks like the name of another certificate source is none: it must not stand in for that source's. Nor is a
    canary.
    """
    ours = _CERTIFICATE_NAME.match(name) is not None and not is_canary(name)
    return ours and keeps_its_place(name) and scheme_of(name) == BLOB_SCHEME


def is_canary(name: str) -> bool:
    """Whether a blob of this name is no upload but a canary: `certcast doctor` sees by it whether events arrive.

    An event about one has the Function delete it, and nothing else is ever done about it, so that writing one costs
    certcast nothing.
    """
    return _CANARY.match(name) is not None


def new_canary_name() -> str:
    """A name for a canary, unlike every other."""
    return f"certcast-doctor-{secrets.token_hex(16)}.pfx"


def is_upload_name(name: str, schemes: Collection[str]) -> bool:
    """Whether an upload may have this name, which came with a message: a blob's, or one of another source's.

    Args:
        name: Anything.
        schemes: Of the further certificate sources that are set up.
    """
    return is_certificate_name(name) or (scheme_of(name) in schemes and keeps_its_place(name))


def keeps_its_place(name: str) -> bool:
    """Whether a name can be put at the end of a URL's path and still name one thing there, and no other.

    HTTP clients and servers take out the segments `.` and `..` (RFC 3986 section 5.2.4), so that `../bundles/x` would
    name something in another container; the storage emulator takes a backslash for a slash. Control characters are not
    allowed in blob names (learn.microsoft.com, "Naming and Referencing Containers, Blobs, and Metadata").
    """
    dots = not {".", ".."}.isdisjoint(name.split("/"))
    return 0 < len(name) <= MAX_NAME_CHARS and not dots and _NEVER_IN_NAMES.search(name) is None


def scheme_of(name: str) -> str:
    """Tell the kind of source an upload's name belongs to: `keyvault` for `keyvault://vault/name`, `blob` for blobs."""
    scheme, mark, _ = name.partition("://")
    return scheme if mark else BLOB_SCHEME
