"""Metadata keys that certcast does not know: which one was meant, and what that means for an upload.

A value is never quoted: it may be a password.
"""

from __future__ import annotations

import difflib
import re
import unicodedata
from typing import TYPE_CHECKING

from shared.phrasing import listed, shown
from shared.upload import SEALED_BUNDLE_KEY
from shared.verdict import Caution, VerdictCode, Violation, WarningCode

if TYPE_CHECKING:
    from collections.abc import Mapping

HOSTS, PORT, SUBJECT, PASSWORD = "HostHeader", "PortNumber", "CertificateSubject", "CertificatePassword"
SITE, ROLE, DEFAULT = "SiteName", "Role", "Default"
KNOWN = (HOSTS, PORT, SUBJECT, PASSWORD, SITE, ROLE, DEFAULT)

_MEANT: Mapping[str, str] = {
    **dict.fromkeys(
        ("hostheader", "hostname", "host", "hosts", "domain", "domainname", "domains", "dnsname", "dns", "san", "fqdn"),
        HOSTS,
    ),
    **dict.fromkeys(("portnumber", "port", "portno", "portnr", "httpsport", "sslport", "tlsport"), PORT),
    **dict.fromkeys(("certificatesubject", "certsubject", "subject", "subjectname", "commonname", "cn", "dn"), SUBJECT),
    **dict.fromkeys(
        ("certificatepassword", "password", "passwd", "passphrase", "pass", "pwd", "passwort", "kennwort", "pin"),
        PASSWORD,
    ),
    **dict.fromkeys(("certpass", "certpwd", "pfxpass", "pfxpwd", "p12pass", "p12pwd", "pkcs12pass"), PASSWORD),
    **dict.fromkeys(("sitename", "site", "website", "websitename", "iissite"), SITE),
    **dict.fromkeys(("role", "roles", "rolename", "instancerole"), ROLE),
    **dict.fromkeys(("default", "isdefault", "defaultcertificate", "fallback", "catchall"), DEFAULT),
}
"""What people call it, without case and marks, and the key that it stands for."""
_PARTS = (("password", PASSWORD), ("passphrase", PASSWORD), ("hostheader", HOSTS), ("hostname", HOSTS))
"""What says as much within a longer name."""
_CLOSE = 0.84
"""How alike two words are, by `difflib`, where one is the other misspelt: `hostheadr`, but not `rules` for `role`."""
_MARKS = re.compile(r"[^a-z0-9]+")
_KEY_CHARS = 60
_MOST = 5
"""Unknown keys with a warning of their own."""


def meant_by(key: str) -> str | None:
    """The known key that an unknown one most likely stands for; None for none."""
    word = _MARKS.sub("", unicodedata.normalize("NFKC", key).casefold())
    part = next((known for part, known in _PARTS if part in word), None)
    if word in _MEANT or part is not None:
        return _MEANT.get(word, part)
    close = difflib.get_close_matches(word, _MEANT, n=1, cutoff=_CLOSE)
    return _MEANT[close[0]] if close else None


def unknown_keys(raw: Mapping[str, str], *, others: bool = True) -> tuple[Caution, ...]:
    """A warning for each unknown key that looks like one of ours, and one for all the others.

    Args:
        raw: An upload's metadata.
        others: Whether those that look like none of ours are named too.
    """
    given = {key.lower() for key in raw}
    unknown = [key for key in raw if key.lower() not in _OURS]
    likely = dict([(key, meant) for key in unknown if (meant := meant_by(key)) is not None][:_MOST])
    found = [_unknown(key, meant, is_given=meant.lower() in given) for key, meant in likely.items()]
    rest = [shown(key, _KEY_CHARS) for key in unknown if key not in likely]
    if rest and others:
        one = len(rest) == 1
        found.append(
            _caution(
                f"The metadata key{'' if one else 's'} {listed(rest)} {'is' if one else 'are'} not known, and left as "
                f"{'it is' if one else 'they are'}; certcast reads {', '.join(KNOWN)}."
            )
        )
    return tuple(found)


_OURS = frozenset({*(key.lower() for key in KNOWN), SEALED_BUNDLE_KEY})


def misnamed_password(raw: Mapping[str, str]) -> Violation | None:
    """What keeps an upload from being opened that has its password under another key, and none where it belongs."""
    names = [shown(key, _KEY_CHARS) for key in raw if key.lower() not in _OURS and meant_by(key) == PASSWORD]
    if not names or PASSWORD.lower() in {key.lower() for key in raw}:
        return None
    detail = f"No {PASSWORD} is set, but a key {names[0]} is: rename it to {PASSWORD}."
    return Violation(code=VerdictCode.INVALID_METADATA, detail=detail)


def _unknown(key: str, meant: str, *, is_given: bool) -> Caution:
    name = shown(key, _KEY_CHARS)
    what = f"The metadata key {name} is not known"
    what += f", and {meant} is set: delete {name}." if is_given else f". Did you mean {meant}?"
    if meant == PASSWORD:
        what += " certcast does not remove what it holds, which every reader of the container can read."
    return _caution(what)


def _caution(detail: str) -> Caution:
    return Caution(code=WarningCode.UNKNOWN_METADATA, detail=detail)
