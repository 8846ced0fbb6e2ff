"""The policy: which hosts, ports and roles uploads under a name's prefix may claim, and certificates never served."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from shared.binding import ANY_ROLE, phrased
from shared.hostnames import DEFAULT_HOST
from shared.phrasing import listed, shown
from shared.upload import USUAL_PORTS, PortRanges
from shared.verdict import VerdictCode, Violation

if TYPE_CHECKING:
    from collections.abc import Iterable

EVERY_HOST = "*"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """What uploads under one prefix may claim.

    Attributes:
        prefix: What their names begin with, from the first character on; empty for those that no other prefix has.
        hosts: Patterns, normalised: a host itself, `*.parent` for every name below at any depth, or `*`.
        ports: PortNumbers.
        roles: Roles; `*` among them is for uploads for every role. None for any.
        default: Whether they may also claim what answers where no host does, on these ports and for these roles.
    """

    prefix: str
    hosts: tuple[str, ...]
    ports: PortRanges = USUAL_PORTS
    roles: tuple[str, ...] | None = None
    default: bool = False

    def allows_host(self, host: str) -> bool:
        """Whether one of the patterns has this host, which may be a wildcard."""
        return any(_matches(pattern, host) for pattern in self.hosts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What uploaders may claim.

    Attributes:
        rules: One for each prefix; None where there is no policy: any upload may claim anything.
        never: Certificates that are never served: lower-case hex SHA-256 of the leaf.
    """

    rules: tuple[Rule, ...] | None = None
    never: frozenset[str] = frozenset()

    def rule_of(self, name: str) -> Rule | None:
        """The rule that decides about uploads of this name: that of the longest prefix it has."""
        under = [rule for rule in self.rules or () if name.startswith(rule.prefix)]
        return max(under, key=lambda rule: len(rule.prefix), default=None)

    def refusal(
        self, *, name: str, hosts: Iterable[str], port: int, role: str, fingerprint_sha256: str, default: bool = False
    ) -> Violation | None:
        """Why an upload may not be served; None when it may.

        Says what the deciding rule allows, and nothing of other rules: they are other uploaders'.

        Args:
            name: The upload's.
            hosts: Normalised, what it claims; none before they are known.
            default: Whether it also claims what answers where no host does.
            port: What it claims them on.
            role: What it claims them for; `*` for every role.
            fingerprint_sha256: Of its leaf, lower-case hex; empty before it is known.
        """
        if self.rules is None:
            return None
        if fingerprint_sha256 in self.never:
            return _refused(
                f"The policy names this certificate (SHA-256 {fingerprint_sha256}) as one that is never served: have "
                "it issued again with a new key."
            )
        rule = self.rule_of(name)
        if rule is None:
            return _refused(
                f"The policy has no rule for the name '{shown(name)}': upload under the prefix that was given to you, "
                "or have the operator add one."
            )
        excess = _excess(rule, hosts, port, role, default=default)
        return _refused(f"{_allowed(rule)}, and not {' and '.join(excess)}.{_CURE}") if excess else None


_CURE = " Correct the metadata, or have the operator add to the policy."


def _refused(detail: str) -> Violation:
    return Violation(code=VerdictCode.NOT_ALLOWED, detail=detail)


def _excess(rule: Rule, hosts: Iterable[str], port: int, role: str, *, default: bool) -> list[str]:
    """What is asked for beyond a rule, in words."""
    excess = []
    if strange := [host for host in hosts if not rule.allows_host(host)]:
        excess.append(listed(strange))
    if default and not rule.default:
        excess.append(phrased(DEFAULT_HOST, port))
    if port not in rule.ports:
        excess.append(f"port {port}")
    if rule.roles is not None and role not in rule.roles:
        excess.append(_role(role))
    return excess


def _allowed(rule: Rule) -> str:
    under = f"under '{shown(rule.prefix)}'" if rule.prefix else "under no other prefix"
    roles = "" if rule.roles is None else f" for {listed([_role(role) for role in rule.roles])}"
    claims = [*(["the default"] if rule.default else []), *(shown(host) for host in rule.hosts)]
    return f"Uploads {under} may claim {listed(claims)} on port {rule.ports}{roles}"


def _role(role: str) -> str:
    return "every role" if role == ANY_ROLE else f"role {shown(role)}"


def _matches(pattern: str, host: str) -> bool:
    return pattern in {EVERY_HOST, host} or (pattern.startswith("*.") and host.endswith(pattern[1:]))
