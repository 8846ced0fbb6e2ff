"""Reading a policy's text, TOML or JSON; every fault in it is found, named with its entry and its cure."""

from __future__ import annotations

import json
import re
import tomllib
from collections import Counter
from typing import TYPE_CHECKING, Any

from shared.binding import ANY_ROLE
from shared.errors import CertcastError
from shared.hostnames import normalise_host
from shared.phrasing import listed, shown
from shared.upload import ROLE_NAME, USUAL_PORTS, PortRanges, keeps_its_place
from shared.validation.policy import EVERY_HOST, Policy, Rule

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_POLICY_BYTES = 1_000_000
MAX_FAULTS = 50
"""Named at a time: a text in another form has as many as it has lines."""

_VERSION = 1
_ENTRY = ("prefix", "hosts", "ports", "roles", "default")
_FINGERPRINT = re.compile(r"[0-9a-f]{64}\Z")


class FaultyPolicyError(CertcastError):
    """A policy that cannot be used.

    Attributes:
        faults: What is wrong, a sentence each that names the entry and the cure.
    """

    def __init__(self, faults: list[str]) -> None:
        self.faults = tuple(shown(fault, 500) for fault in faults[:MAX_FAULTS])
        super().__init__(" ".join(self.faults))


def read_policy(text: str) -> Policy:
    """Read a policy.

    Args:
        text: JSON if it begins with a brace, else TOML.

    Raises:
        FaultyPolicyError: Anything in it is wrong: half a policy is none.
    """
    document = _document(text)
    strange = sorted(document.keys() - {"version", "never", "uploads"})
    faults = [f"'{shown(key)}' is not known: a policy has version, never and uploads." for key in strange]
    version = document.get("version")
    if version != _VERSION or isinstance(version, bool):
        faults.append(f"version is {_quoted(version)}: write version = {_VERSION}.")
    never = _each(document, "never", "never", faults, _fingerprint)
    entries = document.get("uploads")
    if not isinstance(entries, list) or not entries:
        faults.append(
            "uploads has no entry, so that nothing could be uploaded: add [[uploads]] with prefix and hosts; prefix = "
            '"", hosts = ["*"] and ports = ["1-65535"] let every upload claim anything.'
        )
        entries = []
    rules = [rule for number, entry in enumerate(entries, 1) if (rule := _rule(number, entry, faults)) is not None]
    faults += _doubled([rule.prefix for rule in rules], "uploads: prefix", "put both into one entry")
    if faults:
        raise FaultyPolicyError(faults)
    return Policy(rules=tuple(rules), never=frozenset(never))


def warnings_about(policy: Policy) -> list[str]:
    """What in a policy is allowed and yet seldom meant, a sentence each."""
    return [
        f"prefix '{shown(rule.prefix)}' does not end with a slash, so that it is also the beginning of "
        f"'{shown(rule.prefix)}x/a.pfx': write '{shown(rule.prefix)}/' if a folder is meant."
        for rule in policy.rules or ()
        if rule.prefix and not rule.prefix.endswith("/")
    ]


def _document(text: str) -> dict[str, Any]:
    if len(text) > MAX_POLICY_BYTES:
        raise FaultyPolicyError([f"the policy is longer than {MAX_POLICY_BYTES:,} characters: shorten it."])
    text = text.removeprefix("\N{ZERO WIDTH NO-BREAK SPACE}").lstrip()
    kind = "JSON" if text.startswith("{") else "TOML"
    try:
        if kind == "TOML":
            return tomllib.loads(text.replace("\r\n", "\n"))
        document = json.loads(text, object_pairs_hook=_without_doubles)
    except RecursionError:
        raise FaultyPolicyError([f"the policy is nested too deeply to be {kind} of this form."]) from None
    except ValueError as error:
        raise FaultyPolicyError([f"the policy is no {kind}: {error}; correct it there."]) from None
    assert isinstance(document, dict)  # noqa: S101 - it begins with a brace
    return document


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """TOML refuses a key that is there twice; of JSON, a list of what is never served could be put out of force so."""
    names = [name for name, _ in pairs]
    if doubled := [name for name, times in Counter(names).items() if times > 1]:
        raise ValueError(f"'{shown(doubled[0])}' is there twice in one object")
    return dict(pairs)


def _rule(number: int, entry: object, faults: list[str]) -> Rule | None:
    where = f"uploads entry {number}"
    if not isinstance(entry, dict):
        faults.append(f"{where} is {_quoted(entry)}: write a table with prefix and hosts.")
        return None
    before = len(faults)
    prefix = entry.get("prefix")
    if not isinstance(prefix, str):
        faults.append(f'{where} has no prefix: write prefix = "shops/alice/", or "" for the uploads of no other entry.')
        prefix = ""
    elif prefix:
        where += f" ('{shown(prefix)}')"
        if not keeps_its_place(prefix):
            faults.append(f"{where}: no name begins so: backslashes, control characters, . and .. are in no name.")
    strange = sorted(entry.keys() - set(_ENTRY))
    faults += [f"{where}: '{shown(key)}' is not known: an entry has {listed(_ENTRY)}." for key in strange]
    hosts = _each(entry, "hosts", f"{where}: hosts", faults, _pattern)
    faults += _doubled(hosts, f"{where}: hosts", "leave one out")
    if not hosts and len(faults) == before:
        faults.append(f'{where} has no hosts: write hosts = ["*.alice.example"], or ["*"] for every host.')
    ports = _each(entry, "ports", f"{where}: ports", faults, _port) if "ports" in entry else []
    if "ports" in entry and not ports and len(faults) == before:
        faults.append(f"{where}: ports is empty: leave it out for {USUAL_PORTS}.")
    roles = _each(entry, "roles", f"{where}: roles", faults, _role) if "roles" in entry else None
    if roles is not None and not roles and len(faults) == before:
        faults.append(f"{where}: roles is empty: leave it out for any role.")
    default = entry.get("default", False)
    if not isinstance(default, bool):
        faults.append(f"{where}: default is {_quoted(default)}: write true, or false, as where it is left out.")
    if len(faults) > before:
        return None
    return Rule(
        prefix=prefix,
        hosts=tuple(hosts),
        ports=PortRanges.parse(",".join(ports)) if ports else USUAL_PORTS,
        roles=None if roles is None else tuple(roles),
        default=default,
    )


def _each(table: dict[str, Any], key: str, where: str, faults: list[str], read: Callable[[object], str]) -> list[str]:
    """The items of a list, each as `read` makes it; its faults are noted."""
    items = table.get(key, [])
    if not isinstance(items, list):
        faults.append(f"{where} is {_quoted(items)}: write a list, [...].")
        return []
    found = []
    for item in items:
        try:
            found.append(read(item))
        except ValueError as error:
            faults.append(f"{where}: {error}.")
    return found


def _fingerprint(item: object) -> str:
    text = item.replace(":", "").replace(" ", "").lower() if isinstance(item, str) else ""
    if not _FINGERPRINT.match(text):
        raise ValueError(
            f"{_quoted(item)} is no SHA-256 fingerprint: write its 64 hexadecimal digits, in quotation marks"
        )
    return text


def _pattern(item: object) -> str:
    if not isinstance(item, str):
        raise ValueError(f"{_quoted(item)} is no host: write it in quotation marks")  # noqa: TRY004 - of a file
    text = item.strip()
    if text == EVERY_HOST:
        return EVERY_HOST
    parent = normalise_host(text.removeprefix("*."))
    if parent.startswith("*"):
        raise ValueError(f"{_quoted(item)} has two stars: *.example.com has every name below it, at any depth")
    return f"*.{parent}" if text.startswith("*.") else parent


def _port(item: object) -> str:
    text = item if isinstance(item, str) else str(item) if isinstance(item, int) and not isinstance(item, bool) else ""
    try:
        PortRanges.parse(text)
    except ValueError:
        raise ValueError(f'{_quoted(item)} is no port: write a number, 443, or a range, "9000-9010"') from None
    return text


def _role(item: object) -> str:
    if not isinstance(item, str) or (item != ANY_ROLE and not ROLE_NAME.match(item)):
        raise ValueError(
            f"{_quoted(item)} is no role: write 1 to 64 letters, digits, dots, hyphens and underscores, or * for "
            "uploads for every role"
        )
    return item


def _doubled(names: list[str], where: str, cure: str) -> list[str]:
    return [f"{where} '{shown(name)}' is there twice: {cure}." for name, times in Counter(names).items() if times > 1]


def _quoted(value: object) -> str:
    if value is None:
        return "missing"
    return f"a {type(value).__name__}" if isinstance(value, list | dict) else f"'{shown(str(value))}'"
