import datetime as dt
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import ExtendedKeyUsageOID

from shared.bundle.link import Link
from shared.errors import ConfigurationError
from shared.validation.trust import Trust
from shared.verdict import VerdictCode, Violation, WarningCode
from tests.rigs.certificates import Authority, Issued, authority, key_usage, new_key, self_signed

NOW = dt.datetime.now(dt.UTC).replace(microsecond=0)
DAY = dt.timedelta(days=1)
MAIL = ExtendedKeyUsageOID.EMAIL_PROTECTION


def trusting(*roots: x509.Certificate, browsers: bool = False) -> Trust:
    return Trust(roots=roots, name="test roots", browsers=browsers)


def objection(
    issued: Issued,
    trust: Trust | None = None,
    *,
    host: str | None = "www.example.com",
    root: x509.Certificate | None = None,
    now: dt.datetime = NOW,
) -> Violation | None:
    others = tuple(map(Link.of, (*issued.chain, *([root] if root else []))))
    found = (trust or trusting(issued.root)).choose(Link.of(issued.certificate), others, host=host, now=now).objections
    return next(iter(found), None)


def refused(found: Violation | None) -> str:
    assert found is not None
    assert found.code is VerdictCode.UNTRUSTED_CHAIN
    return found.detail


# The setting


def test_public_means_the_roots_that_browsers_trust() -> None:
    trust = Trust.from_setting(" public ")
    assert trust.name == "public"
    assert trust.roots is not None
    assert "ISRG Root X1" in " ".join(root.subject.rfc4514_string() for root in trust.roots)


def test_off_trusts_any_chain() -> None:
    trust = Trust.from_setting("off")
    assert trust == Trust(roots=None, name="off")
    assert objection(self_signed("www.example.com"), trust) is None


def test_a_path_means_the_roots_in_that_file(tmp_path: Path) -> None:
    file = tmp_path / "roots.pem"
    one, two = authority(), authority()
    file.write_bytes(b"# ours\n" + one.root_pem + two.root_pem)
    trust = Trust.from_setting(str(file))
    assert trust.roots == (one.root, two.root)
    assert trust.name == str(file)
    assert objection(one.issue("www.example.com"), trust) is None
    assert objection(two.issue("www.example.com"), trust) is None


def test_a_setting_that_yields_no_roots_says_what_to_write(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"CERTCAST_TRUST is empty: write public, off"):
        Trust.from_setting("  ")
    with pytest.raises(ConfigurationError, match=r"nowhere.pem.*cannot be read"):
        Trust.from_setting(str(tmp_path / "nowhere.pem"))
    der = tmp_path / "root.cer"
    der.write_bytes(b"\x30\x82")
    with pytest.raises(ConfigurationError, match="openssl x509 -inform DER"):
        Trust.from_setting(str(der))


def test_no_roots_at_all_are_a_mistake_and_not_trust_in_all() -> None:
    with pytest.raises(ValueError, match="no roots"):
        Trust(roots=(), name="none")


# Chains


def test_a_chain_to_a_trusted_root_is_believed_for_a_wildcard_too() -> None:
    issued = authority().intermediate().issue("*.example.com")
    assert objection(issued, host="*.example.com") is None


def test_a_certificate_without_any_name_is_believed_as_far_as_its_root_goes() -> None:
    assert objection(authority().issue(subject="CN=x"), host=None) is None


def test_a_missing_intermediate_is_named() -> None:
    issued = authority().intermediate("The Missing Link").issue("www.example.com")
    found = objection(replace(issued, chain=()))
    assert found is not None
    assert found.code is VerdictCode.INCOMPLETE_CHAIN
    assert "'CN=The Missing Link', which issued 'CN=www.example.com', is neither in the file nor a root" in found.detail


def test_a_whole_chain_to_a_stranger_s_root_is_untrusted() -> None:
    issued = authority("A Stranger").intermediate().issue("www.example.com")
    detail = refused(objection(issued, trusting(authority().root), root=issued.root))
    assert "The chain ends in 'CN=A Stranger'" in detail
    assert "CERTCAST_TRUST=test roots" in detail


def test_a_namesake_of_a_trusted_root_is_untrusted() -> None:
    issued = authority("Famous CA").issue("www.example.com")
    assert "whose key is not that of a root" in refused(objection(issued, trusting(authority("Famous CA").root)))


def test_a_certificate_signed_by_itself_is_untrusted_unless_it_is_a_root() -> None:
    issued = self_signed("www.example.com")
    assert "signed by itself" in refused(objection(issued, trusting(authority().root), root=issued.root))
    assert objection(issued, trusting(issued.certificate)) is None


def test_an_intermediate_may_be_what_is_trusted() -> None:
    ca = authority().intermediate()
    assert objection(ca.issue("www.example.com"), trusting(ca.certificate)) is None


def test_a_link_above_a_trusted_root_does_not_matter() -> None:
    old, new = authority("old root"), authority("new root")
    crossed = old.intermediate("new root", key=new.key).certificate
    issued = replace(new.issue("www.example.com"), chain=(crossed,))
    assert objection(issued, trusting(new.root)) is None


def test_roots_that_openssl_makes_without_key_usage_are_good_enough() -> None:
    key = new_key()
    subject = x509.Name.from_rfc4514_string("CN=private root")
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(subject).public_key(key.public_key())
    builder = builder.serial_number(1).not_valid_before(NOW - DAY).not_valid_after(NOW + 99 * DAY)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    root = builder.sign(key, hashes.SHA256())
    issued = Authority(root, key, (), root).issue("www.example.com")
    assert objection(issued) is None


def not_an_authority(root: Authority) -> Authority:
    leaf = root.issue("not.an.authority.example")
    return Authority(leaf.certificate, leaf.key, (leaf.certificate,), root.root)


def deep(root: Authority) -> Authority:
    for level in range(9):
        root = root.intermediate(f"level {level}")
    return root


CORP = x509.NameConstraints([x509.DNSName("corp.example.net")], None)


@pytest.mark.parametrize(
    ("below", "said"),
    [
        (
            lambda root: root.intermediate("Upper", path_length=0).intermediate("Lower"),
            "its intermediate 'CN=Upper' allows 0 authorities below it (its path length), and there are 1 in the chain",
        ),
        (
            not_an_authority,
            "'CN=not.an.authority.example' has basicConstraints with CA:FALSE, and so is no authority's, but issued",
        ),
        (
            lambda root: root.intermediate("Corp", extensions=[CORP]),
            "its name constraints permit only 'corp.example.net', and 'CN=www.example.com' has 'www.example.com'",
        ),
        (
            lambda root: root.intermediate("Mail", extensions=[x509.ExtendedKeyUsage([MAIL])]),
            "its intermediate 'CN=Mail' may not issue server certificates: its extendedKeyUsage allows emailProtection",
        ),
        (
            lambda root: root.intermediate("Idle", usage=key_usage("digital_signature")),
            "its intermediate 'CN=Idle' has a keyUsage without keyCertSign, and so may not sign certificates",
        ),
        (deep, "has more than 8 intermediates, which is longer than any browser follows"),
    ],
)
def test_a_chain_that_clients_refuse_is_untrusted_and_the_cure_is_for_that(below: object, said: str) -> None:
    root = authority()
    assert callable(below)
    issued = below(root).issue("www.example.com")
    detail = refused(objection(issued))
    assert said in detail
    assert "publishes now" not in detail
    assert detail.endswith(".")


@pytest.mark.parametrize(
    ("below", "said"),
    [
        (lambda root: root.intermediate("Short", key="rsa1024"), "'CN=Short' has an RSA key of less than 2048 bits"),
        (lambda root: root.intermediate("Odd", key="ed25519"), "'CN=Odd' has a kind of key that browsers refuse"),
    ],
)
def test_keys_of_authorities_that_browsers_refuse_are_refused_where_their_roots_are_trusted(
    below: object, said: str
) -> None:
    root = authority()
    assert callable(below)
    issued = below(root).issue("www.example.com")
    assert said in refused(objection(issued, trusting(root.root, browsers=True)))
    assert objection(issued) is None


def test_a_short_key_of_an_authority_of_one_s_own_is_warned_of() -> None:
    issued = authority().intermediate("Short", key="rsa1024").issue("www.example.com")
    chosen = trusting(issued.root).choose(
        Link.of(issued.certificate), [Link.of(one) for one in issued.chain], host="www.example.com", now=NOW
    )
    [caution] = chosen.warnings
    assert caution.code is WarningCode.WEAK_AUTHORITY
    assert "'CN=Short' has an RSA key of 1024 bits" in caution.detail


def test_a_browser_s_reason_that_is_not_known_is_told_in_the_verifier_s_words() -> None:
    issued = authority().issue("www.example.com")
    detail = refused(objection(issued, trusting(issued.root, browsers=True), host="other.example.com"))
    assert "'CN=www.example.com' breaks the rules of the web's authorities (leaf certificate has no matching" in detail


# Dates


def test_an_expired_intermediate_is_named_with_its_dates() -> None:
    ca = authority().intermediate("Lapsed CA", not_before=NOW - 30 * DAY, not_after=NOW - DAY)
    detail = refused(objection(ca.issue("www.example.com")))
    assert "'CN=Lapsed CA' is valid only from" in detail
    assert "Export the certificate again with the intermediates that its authority publishes now" in detail
    assert (NOW - DAY).strftime("%Y-%m-%dT%H:%M:%SZ") in detail


def test_an_expired_root_makes_a_chain_untrusted() -> None:
    root = authority(not_before=NOW - 30 * DAY, not_after=NOW - DAY)
    detail = refused(objection(root.issue("www.example.com")))
    assert "its root 'CN=certcast test CA' is valid only from" in detail
    assert "publishes now" not in detail


def test_the_date_of_an_expired_leaf_is_not_held_against_its_chain() -> None:
    old, new = authority(not_before=NOW - 900 * DAY), authority()
    for root in (old, new):
        issued = root.issue("www.example.com", not_before=NOW - 400 * DAY, not_after=NOW - 40 * DAY)
        assert objection(issued) is None


def test_an_expired_leaf_of_a_stranger_is_untrusted_all_the_same() -> None:
    issued = authority().issue("www.example.com", not_after=NOW - DAY)
    assert objection(issued, trusting(authority("another").root)) is not None


def test_a_leaf_that_is_not_valid_yet_is_verified_as_of_the_day_it_is() -> None:
    root = authority()
    assert objection(root.issue("www.example.com", not_before=NOW + 30 * DAY)) is None
    lapsing = root.intermediate("Lapsing CA", not_after=NOW + 10 * DAY)
    assert "Lapsing CA" in refused(objection(lapsing.issue("www.example.com", not_before=NOW + 30 * DAY)))
