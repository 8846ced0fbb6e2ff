"""Whether policy and trust can be used as they are set, for `certcast doctor` and for the Function's own health."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shared.config import POLICY_SETTING
from shared.errors import CertcastError, ConfigurationError
from shared.state.findings import Check, Finding, Seen, Severity, finding_of
from shared.validation.policy_text import FaultyPolicyError, read_policy, warnings_about
from shared.validation.trust import OFF, Trust

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

TRUST_SETTING = "CERTCAST_TRUST"


def policy_check(read: Callable[[], Awaitable[str]]) -> Check:
    """The check of a policy, every fault of which is named.

    Args:
        read: Reads its text.
    """

    async def look() -> Seen:
        try:
            policy = read_policy(await read())
        except FaultyPolicyError as error:
            return Seen(findings=tuple(_about_policy(fault, Severity.WRONG) for fault in error.faults))
        except CertcastError as error:
            return Seen(findings=(finding_of(error, POLICY_SETTING),))
        warned = tuple(_about_policy(warning, Severity.WARNING) for warning in warnings_about(policy))
        return Seen(remark=f"{len(policy.rules or ())} prefix(es)", findings=warned)

    return Check(name="policy", look=look)


def _about_policy(detail: str, severity: Severity) -> Finding:
    return Finding(code="policy", about=POLICY_SETTING, detail=detail, severity=severity)


def trust_check(setting: str) -> Check:
    """The check of whose certificates are accepted; the roots are read again, which may be a file that went away."""

    async def look() -> Seen:
        try:
            trust = Trust.from_setting(setting)
        except ConfigurationError as error:
            return Seen(findings=(Finding(code="setting", about=TRUST_SETTING, detail=str(error)),))
        issuers = "issuers are not checked" if trust.name == OFF else f"{len(trust.roots or ())} roots"
        return Seen(remark=f"{trust.name}: {issuers}")

    return Check(name="trust", look=look, vital=False)
