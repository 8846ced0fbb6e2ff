"""Judging an upload: every reason why a certificate may not be served, or not yet."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from shared.bundle import CertificateBundle
from shared.bundle.link import Link
from shared.hostnames import normalise_host
from shared.phrasing import listed, logger, shown
from shared.pkcs12.keys import MAX_RSA_BITS
from shared.upload import DEFAULT_PORT, USUAL_PORTS, PortRanges
from shared.validation.assembling import OpenedPfx, Unopened, too_long
from shared.validation.leaf import cautions, dates, hides_chain, key_strength, purpose, signatures
from shared.validation.leaf_names import LeafNames
from shared.validation.pfx import MAX_KDF_ITERATIONS, MAX_PFX_BYTES, open_pfx
from shared.validation.subjects import mismatches
from shared.validation.trust import Trust
from shared.verdict import MAX_VIOLATIONS, MAX_WARNINGS, Caution, Decided, VerdictCode, Violation

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from shared.upload import UploadMetadata

log = logger(__name__)

MAX_HOSTS = 250

# What makes a chain unverifiable by itself, so that the verifier's word on it would only say the same again.
_HIDES_CHAIN = frozenset({VerdictCode.WEAK_SIGNATURE})
# The order in which the verdicts are declared, but first comes the one that explains others.
_RANK = {code: rank for rank, code in enumerate(VerdictCode)} | {VerdictCode.PASSWORD_SECRET_UNAVAILABLE: -1}


@dataclass(frozen=True, slots=True, kw_only=True)
class ValidationPolicy:
    """What an installation of certcast accepts.

    Attributes:
        trust: Whose certificates.
        max_pfx_bytes: Larger uploads are not looked at.
        max_kdf_iterations: Key derivation spent on one upload, in total.
        max_checked_rsa_bits: A private RSA key with more takes too long to be checked.
        max_hosts: Host names of one upload.
        ports: PortNumbers that uploads may ask for.
    """

    trust: Trust
    max_pfx_bytes: int = MAX_PFX_BYTES
    max_kdf_iterations: int = MAX_KDF_ITERATIONS
    max_checked_rsa_bits: int = MAX_RSA_BITS
    max_hosts: int = MAX_HOSTS
    ports: PortRanges = USUAL_PORTS


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement(Decided):
    """What came of looking at an upload.

    Attributes:
        violations: Every reason against it, the most fundamental first.
        hosts: Normalised and distinct, in the order written; the certificate's own names when none were written.
        port, role, site, default: From the metadata.
        bundle: Key, leaf and chain; None when the file holds none.
        warnings: What its uploader should know besides, and what keeps nothing from being served.
        wants_password: Whether the file is a PFX that another password may open.
    """

    violations: tuple[Violation, ...]
    hosts: tuple[str, ...]
    port: int
    role: str
    site: str | None
    bundle: CertificateBundle | None
    default: bool = False
    warnings: tuple[Caution, ...] = ()
    wants_password: bool = False


def judge_pfx(
    content: bytes,
    metadata: UploadMetadata,
    passwords: Sequence[bytes | None],
    *,
    policy: ValidationPolicy,
    now: datetime,
    earlier: Sequence[Violation] = (),
    warnings: Sequence[Caution] = (),
) -> Judgement:
    """Judge an uploaded file, whatever it is: nothing is raised.

    This may take seconds of processor time: do not call it on an event loop.

    Args:
        content: The PFX, untrusted.
        metadata: What the uploader wants.
        passwords: Those to try, UTF-8; None is no password.
        policy: What is accepted here.
        now: The time to judge by.
        earlier: What is already known against it, such as `parse_metadata`'s findings.
        warnings: What its uploader is to be told besides.
    """
    opened: OpenedPfx | Unopened
    try:
        opened = open_pfx(
            content,
            passwords,
            max_bytes=policy.max_pfx_bytes,
            max_kdf_iterations=policy.max_kdf_iterations,
            max_checked_rsa_bits=policy.max_checked_rsa_bits,
        )
        if isinstance(opened, OpenedPfx):
            return _judge(opened, metadata, policy, now, earlier=earlier, warnings=warnings)
    except BaseException as problem:  # a panic of `cryptography`'s is no Exception
        if isinstance(problem, KeyboardInterrupt | SystemExit | GeneratorExit):
            raise
        # The library's errors may quote what they were given; their class says enough.
        log.error("a file is rejected, reading it ended in an unexpected %s", type(problem).__name__)
        opened = Unopened(violations=(unreadable(f"reading it ended in an unexpected {type(problem).__name__}"),))
    hosts, violations = _named_hosts(metadata, policy)
    violations = [*earlier, *_port(metadata, policy, earlier), *opened.violations, *violations]
    judgement = _judgement(metadata, hosts, violations, None, (*warnings, *opened.warnings))
    return replace(judgement, wants_password=opened.wants_password)


def unreadable(reason: str) -> Violation:
    """Say of a file that could not be read to its end why.

    Args:
        reason: A clause.
    """
    detail = f"The file cannot be read: {reason}. Export it again, and upload the whole file as it is."
    return Violation(code=VerdictCode.UNREADABLE_BUNDLE, detail=detail)


def judge_bundle(
    bundle: CertificateBundle,
    metadata: UploadMetadata,
    *,
    policy: ValidationPolicy,
    now: datetime,
    earlier: Sequence[Violation] = (),
    warnings: Sequence[Caution] = (),
) -> Judgement:
    """Judge a bundle that was opened before, by the same rules as `judge_pfx`."""
    return _judge(
        OpenedPfx(bundle=bundle, leaf=Link.of(bundle.leaf), others=bundle.chain),
        metadata,
        policy,
        now,
        earlier=earlier,
        warnings=warnings,
    )


def _judge(
    opened: OpenedPfx,
    metadata: UploadMetadata,
    policy: ValidationPolicy,
    now: datetime,
    *,
    earlier: Sequence[Violation],
    warnings: Sequence[Caution],
) -> Judgement:
    names = LeafNames.of(opened.bundle)
    hosts, found = _hosts(names, metadata, policy)
    chosen = policy.trust.choose(opened.leaf, opened.others, host=next(iter(names.usable), None), now=now)
    bundle = replace(opened.bundle, chain=chosen.chain)
    violations = [
        *earlier,
        *_port(metadata, policy, earlier),
        *opened.violations,
        *key_strength(bundle),
        *signatures(bundle),
        *dates(bundle, now),
        *purpose(bundle),
        *found,
        *_subject(bundle, metadata),
        *too_long(bundle),
    ]
    codes = {violation.code for violation in violations}
    if _HIDES_CHAIN.isdisjoint(codes) and not hides_chain(opened.leaf):
        malformed = {violation.code for violation in opened.violations}
        violations += [violation for violation in chosen.objections if violation.code not in malformed]
    told = (*warnings, *opened.warnings, *chosen.warnings, *cautions(bundle))
    told = (*told, *names.cautions(all_served=not metadata.hosts))
    return _judgement(metadata, hosts, violations, None if opened.violations else bundle, told)


def _judgement(
    metadata: UploadMetadata,
    hosts: tuple[str, ...],
    violations: list[Violation],
    bundle: CertificateBundle | None,
    warnings: Sequence[Caution],
) -> Judgement:
    return Judgement(
        violations=ranked(violations),
        hosts=hosts,
        port=metadata.port,
        role=metadata.role,
        site=metadata.site,
        default=metadata.default,
        bundle=bundle,
        warnings=tuple(dict.fromkeys(warnings))[:MAX_WARNINGS],
    )


def ranked(violations: Sequence[Violation]) -> tuple[Violation, ...]:
    """Each once, the most fundamental first, and no more than a row has room for."""
    return tuple(sorted(dict.fromkeys(violations), key=lambda violation: _RANK[violation.code])[:MAX_VIOLATIONS])


def _hosts(
    names: LeafNames, metadata: UploadMetadata, policy: ValidationPolicy
) -> tuple[tuple[str, ...], list[Violation]]:
    """The hosts to bind and whether the certificate covers them."""
    if not metadata.hosts:
        if not names.usable:
            detail = (
                f"No HostHeader says which hosts to serve, and the certificate does not either: {names.said}. Order "
                "one that has the hosts in its subjectAltName."
            )
            return (), [Violation(code=VerdictCode.HOST_NOT_COVERED, detail=detail)]
        return _limited(names.usable, policy)
    hosts, violations = _named_hosts(metadata, policy)
    uncovered = [host for host in hosts if not names.cover(host)]
    if uncovered:
        detail = (
            f"The certificate does not cover {listed(uncovered)}: {names.said}. Order it for these names too, or "
            "correct HostHeader."
        )
        violations.append(Violation(code=VerdictCode.HOST_NOT_COVERED, detail=detail))
    return hosts, violations


def _named_hosts(metadata: UploadMetadata, policy: ValidationPolicy) -> tuple[tuple[str, ...], list[Violation]]:
    """HostHeader's hosts; one violation tells of all that are no host names, as there may be hundreds."""
    hosts: dict[str, None] = {}
    problems: list[str] = []
    for text in metadata.hosts:
        try:
            hosts[normalise_host(text)] = None
        except ValueError as problem:
            problems.append(str(problem))
    limited, violations = _limited(tuple(hosts), policy)
    if problems:
        detail = f"HostHeader has what is no host name: {listed(problems, '; ')}."
        violations.append(Violation(code=VerdictCode.INVALID_HOST, detail=detail))
    return limited, violations


def _limited(hosts: tuple[str, ...], policy: ValidationPolicy) -> tuple[tuple[str, ...], list[Violation]]:
    if len(hosts) <= policy.max_hosts:
        return hosts, []
    detail = (
        f"The upload is for {len(hosts)} hosts, and {policy.max_hosts} are the most for one: name fewer in HostHeader, "
        "and upload the file again under another name for the others."
    )
    return hosts[: policy.max_hosts], [Violation(code=VerdictCode.TOO_MANY_HOSTS, detail=detail)]


def _port(metadata: UploadMetadata, policy: ValidationPolicy, earlier: Sequence[Violation]) -> list[Violation]:
    faulty = any(violation.code is VerdictCode.INVALID_PORT for violation in earlier)
    if faulty or metadata.port in policy.ports:
        return []
    usual = ", which stands where none is given" if metadata.port == DEFAULT_PORT else ""
    detail = (
        f"PortNumber is {metadata.port}{usual}, and uploads may ask for {policy.ports} here: ask for one of these, or "
        "have the operator add it to CERTCAST_PORTS."
    )
    return [Violation(code=VerdictCode.INVALID_PORT, detail=detail)]


def _subject(bundle: CertificateBundle, metadata: UploadMetadata) -> list[Violation]:
    if metadata.subject is None:
        return []
    expected = shown(metadata.subject)
    try:
        lacking = mismatches(metadata.subject, bundle.view.subject)
    except ValueError as problem:
        detail = (
            f"CertificateSubject '{expected}' cannot be compared: {problem}. Write it like CN=www.example.com,O=Shop."
        )
        return [Violation(code=VerdictCode.INVALID_METADATA, detail=detail)]
    if not lacking:
        return []
    found = f"'{shown(bundle.subject)}'" if bundle.subject else "empty"
    detail = (
        f"CertificateSubject expects '{expected}', but the certificate's subject is {found} and lacks "
        f"{listed([shown(attribute) for attribute in lacking])}. Upload the right file, or correct CertificateSubject."
    )
    return [Violation(code=VerdictCode.SUBJECT_MISMATCH, detail=detail)]
