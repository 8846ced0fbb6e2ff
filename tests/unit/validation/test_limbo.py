"""x509-limbo's chains for servers (C2SP, Apache-2.0), judged as an upload is: where we disagree is listed, with why."""

import datetime as dt
import json
import ssl
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from shared.bundle import CertificateBundle, PrivateKey
from shared.bundle.link import Link
from shared.upload import UploadMetadata
from shared.validation.judge import ValidationPolicy, judge_bundle, judge_pfx
from shared.validation.trust import Trust
from shared.verdict import NOTICES
from tests.rigs.certificates import new_key
from tests.rigs.deployment import ROOT
from tests.rigs.handmade_certificate import der_bag
from tests.rigs.handmade_pfx import key_bag, pfx, plain_safe

DATA = ROOT.parent / "shared" / "data" / "limbo-server.json"
LISTED = Path(__file__).with_name("limbo_disagreements.toml")
STAND_IN = new_key()


@dataclass(frozen=True)
class Word:
    """What we say of a case: whether it is accepted, and if not, why."""

    accepted: bool
    reasons: tuple[str, ...]


def ours(case: dict[str, Any], *, browsers: bool) -> Word:
    """Judge a case's leaf for its peer's name, among all its certificates, at its time.

    Args:
        case: Of x509-limbo.
        browsers: Whether its roots are trusted as the web's are, and not as somebody's own.
    """
    ders = [ssl.PEM_cert_to_DER_cert(pem) for pem in (case["peer_certificate"], *case["untrusted_intermediates"])]
    try:
        roots = tuple(x509.load_pem_x509_certificate(pem.encode()) for pem in case["trusted_certs"])
    except ValueError as problem:
        return Word(accepted=False, reasons=(str(problem),))
    policy = ValidationPolicy(trust=Trust(roots=roots, name="x509-limbo", browsers=browsers))
    peer = case["expected_peer_name"]
    metadata = UploadMetadata(hosts=(peer["value"],) if peer else ())
    when = case["validation_time"]
    now = dt.datetime.fromisoformat(when) if when else dt.datetime.now(dt.UTC)
    if case["peer_certificate_key"]:
        key = serialization.load_pem_private_key(case["peer_certificate_key"].encode(), None)
        assert isinstance(key, PrivateKey)
        judgement = judge_pfx(
            pfx(plain_safe(key_bag(key), *map(der_bag, ders))), metadata, [None], policy=policy, now=now
        )
    else:  # a chain is judged by its certificates alone
        leaf, *others = map(Link.read, ders)
        bundle = CertificateBundle(leaf=leaf.view, chain=tuple(others), key=STAND_IN)
        judgement = judge_bundle(bundle, metadata, policy=policy, now=now)
    against = [violation for violation in judgement.violations if violation.code not in NOTICES]
    early = judgement.scheduled  # not served before its time, which x509-limbo calls a failure
    return Word(
        accepted=judgement.accepted and not early,
        reasons=tuple(f"{violation.code}: {violation.detail}" for violation in against),
    )


def expected(case: dict[str, Any]) -> bool:
    return bool(case["expected_result"] == "SUCCESS")


@pytest.fixture(scope="module")
def cases() -> list[dict[str, Any]]:
    if not DATA.exists():
        pytest.skip("x509-limbo's cases are not here: ../shared/data/limbo-server.json")
    found: list[dict[str, Any]] = json.loads(DATA.read_text())["testcases"]
    return found


@pytest.mark.filterwarnings("ignore::cryptography.utils.CryptographyDeprecationWarning")
def test_every_disagreement_with_x509_limbo_is_listed_with_its_reason(
    cases: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    listed = tomllib.loads(LISTED.read_text())["disagreement"]
    reasons = {name: group["reason"] for group in listed for name in group["cases"]}
    assert len(reasons) == sum(len(group["cases"]) for group in listed), "a case is listed twice"
    words = {case["id"]: ours(case, browsers=True) for case in cases}
    disagreements = {case["id"]: case for case in cases if words[case["id"]].accepted != expected(case)}
    agree = len(cases) - len(disagreements)
    own = sum(ours(case, browsers=False).accepted == expected(case) for case in cases)
    with capsys.disabled():
        sys.stdout.write(
            f"\nx509-limbo: {agree} of {len(cases)} agree with CERTCAST_TRUST=public; with roots of one's own, to "
            f"which rules of the web do not apply, {own}\n"
        )
    new = {name: (case["expected_result"], words[name].reasons) for name, case in disagreements.items()}
    assert {name: what for name, what in new.items() if name not in reasons} == {}, "disagreements that are not listed"
    assert sorted(reasons.keys() - disagreements.keys()) == [], "listed, and they agree now"
    for group in listed:
        assert {disagreements[name]["expected_result"] for name in group["cases"]} == {group["expected"]}
        assert len(group["reason"]) > 30
