"""A PFX file at hand: reading it, finding its password, judging it as the Function will."""

from __future__ import annotations

import getpass
import os
import sys
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from operator_cli.account_choice import default_trust
from operator_cli.terminal import say
from shared.binding import MAX_PORT
from shared.config import PORTS_SETTING, ports
from shared.errors import ConfigurationError
from shared.upload import DEFAULT_PORT, PortRanges, parse_metadata
from shared.validation.judge import Judgement, ValidationPolicy, judge_pfx
from shared.validation.metadata_keys import misnamed_password, unknown_keys
from shared.validation.pfx import MAX_PFX_BYTES
from shared.validation.trust import OFF, Trust

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from shared.config import StorageAccess

_ANY_PORT = PortRanges(ranges=((1, MAX_PORT),))
_PIPED_LINE_BYTES = 4096
"""Longer than any password; stdin might be a file that never ends."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What the options ask for.

    Attributes:
        hosts: Hosts as typed.
        port: None for 443.
        default: Whether it is also to answer where no host does.
        subject: Expected subject.
        site: Web site on the target.
        role: Role of the instances.
        written: Metadata as it is to be on the blob; the others come before.
    """

    hosts: tuple[str, ...] = ()
    port: int | None = None
    default: bool = False
    subject: str | None = None
    site: str | None = None
    role: str | None = None
    written: tuple[tuple[str, str], ...] = ()

    def metadata(self) -> dict[str, str]:
        """The same as blob metadata; what was not asked for is left out."""
        values = {
            "HostHeader": ",".join(self.hosts),
            "PortNumber": "" if self.port is None else str(self.port),
            "Default": "true" if self.default else "",
            "CertificateSubject": self.subject or "",
            "SiteName": self.site or "",
            "Role": self.role or "",
        }
        asked = {name: value for name, value in values.items() if value}
        known = {name.lower() for name in asked}
        return {name: value for name, value in self.written if name.lower() not in known} | asked


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A file with what was found about it.

    Attributes:
        content: Its bytes.
        password: The one that was given; None when none was.
        judgement: What the Function will say, as far as this machine can tell.
        trust: What it was judged by.
    """

    content: bytes = field(repr=False)
    password: str | None = field(repr=False)
    judgement: Judgement
    trust: str


def examine(
    path: Path, wish: Wish, *, password_stdin: bool, trust: str | None, access: StorageAccess | None = None
) -> Candidate:
    """Read and judge a file, asking for its password where a terminal can be asked.

    Args:
        path: The file.
        wish: What the options ask for.
        password_stdin: Whether the password is the first line of stdin.
        trust: The option, if it was given.
        access: The storage account in use, which the default trust depends on; None takes the environment's.

    Raises:
        ConfigurationError: The file, the password or the trusted roots cannot be had.
    """
    allowed = ports(os.environ)
    if allowed is None and wish.port not in {None, DEFAULT_PORT}:
        say(f"whether uploads may ask for port {wish.port} was not checked: {PORTS_SETTING} is not set on this machine")
    policy = ValidationPolicy(trust=_trust(trust, access), ports=allowed or _ANY_PORT)
    content = read_file(path)
    password = read_password() if password_stdin else None
    judgement = _judge(content, wish, password, policy)
    if password is None and judgement.wants_password:
        if sys.stdin is not None and sys.stdin.isatty():
            password = getpass.getpass(f"Password of {path.name}: ")
            judgement = _judge(content, wish, password, policy)
        else:
            say("no password was given and no terminal can be asked for it: send it with --password-stdin")
    if policy.trust.name == OFF:
        say("the chain of issuers was not checked (trust is off); `--trust public` checks it, or `--trust ROOTS.pem`")
    return Candidate(content=content, password=password, judgement=judgement, trust=policy.trust.name)


def read_file(path: Path) -> bytes:
    """Read a file, as far as it would be looked at.

    Raises:
        ConfigurationError: It cannot be read; the text says what to give instead.
    """
    try:
        with path.open("rb") as file:
            return file.read(MAX_PFX_BYTES + 1)
    except FileNotFoundError:
        problem = "there is no such file; check the path"
    except IsADirectoryError:
        problem = "this is a folder; name the PFX file in it"
    except PermissionError:
        problem = "you may not read this file; change its permissions or run this as its owner"
    except (OSError, ValueError) as error:
        problem = f"it cannot be read ({getattr(error, 'strerror', None) or error})"
    raise ConfigurationError(f"{path}: {problem}")


def read_password() -> str:
    """The first line of stdin without its end, and nothing else changed: passwords may begin or end with spaces.

    Raises:
        ConfigurationError: There is none.
    """
    if sys.stdin is None:
        raise ConfigurationError("--password-stdin: this program has no stdin")
    if sys.stdin.isatty():
        return getpass.getpass("Password: ")
    line = sys.stdin.buffer.readline(_PIPED_LINE_BYTES)
    if not line:
        raise ConfigurationError("--password-stdin: stdin is empty; send the password as its first line")
    try:
        end = b"\r\n" if line.endswith(b"\r\n") else b"\n"
        return line.removesuffix(end).decode()
    except ValueError:
        raise ConfigurationError("--password-stdin: the password is not UTF-8 text; send it as UTF-8") from None


def _judge(content: bytes, wish: Wish, password: str | None, policy: ValidationPolicy) -> Judgement:
    raw = wish.metadata()
    metadata, noted = parse_metadata(raw)
    tries: Sequence[bytes | None] = [None, b""] if password is None else [password.encode()]
    judgement = judge_pfx(
        content,
        metadata,
        tries,
        policy=policy,
        now=datetime.now(UTC),
        earlier=noted,
        warnings=unknown_keys(raw),
    )
    misnamed = misnamed_password(raw) if password is None and judgement.wants_password else None
    return judgement if misnamed is None else replace(judgement, violations=(misnamed, *judgement.violations))


def _trust(option: str | None, access: StorageAccess | None) -> Trust:
    if option is None:
        return Trust.from_setting(default_trust(os.environ, access))
    try:
        return Trust.from_setting(option)
    except ConfigurationError as error:
        raise ConfigurationError(str(error).replace("CERTCAST_TRUST", "--trust")) from None
