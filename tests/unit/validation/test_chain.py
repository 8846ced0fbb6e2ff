import datetime as dt

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes

from shared.bundle import MAX_INTERMEDIATES
from shared.validation.chain import best_path, is_self_signed
from tests.rigs.certificates import Authority, authority, new_key, self_signed

NOW = dt.datetime.now(dt.UTC).replace(microsecond=0)


def cross_signed(by: Authority, ca: Authority, not_after: dt.datetime | None = None) -> x509.Certificate:
    subject = ca.certificate.subject.rfc4514_string()
    return by.intermediate(subject, key=ca.key, not_after=not_after).certificate


def test_the_chain_is_put_in_order_and_loses_root_strangers_and_duplicates() -> None:
    root = authority("root")
    upper = root.intermediate("upper")
    lower = upper.intermediate("lower")
    leaf = lower.issue("www.example.com")
    stranger = authority("stranger").intermediate("stranger below")
    jumbled = [
        root.root,
        upper.certificate,
        stranger.certificate,
        leaf.certificate,
        lower.certificate,
        upper.certificate,
    ]
    path = best_path(leaf.certificate, jumbled)
    assert path.intermediates == (lower.certificate, upper.certificate)
    assert path.root == root.root


def test_a_namesake_that_did_not_sign_is_no_issuer() -> None:
    real, namesake = authority("CA").intermediate("below"), authority("CA").intermediate("below")
    leaf = real.issue("www.example.com")
    path = best_path(leaf.certificate, [namesake.certificate, namesake.root, real.certificate])
    assert path.intermediates == (real.certificate,)
    assert path.root is None


def test_a_leaf_alone_has_no_chain() -> None:
    path = best_path(authority().issue("www.example.com").certificate, [])
    assert (path.intermediates, path.root) == ((), None)


def test_a_self_signed_leaf_is_its_own_root() -> None:
    issued = self_signed("www.example.com")
    path = best_path(issued.certificate, [issued.certificate, authority().root])
    assert (path.intermediates, path.root) == ((), issued.certificate)


def test_a_trusted_root_decides_between_cross_signed_alternatives() -> None:
    new, old = authority("new root"), authority("old root")
    ca = new.intermediate("CA")
    crossed = cross_signed(old, ca)
    leaf = ca.issue("www.example.com").certificate
    candidates = [crossed, ca.certificate, new.root, old.root]
    assert best_path(leaf, candidates, [new.root]).intermediates == (ca.certificate,)
    assert best_path(leaf, candidates, [old.root]).intermediates == (crossed,)
    assert best_path(leaf, [crossed, ca.certificate], [old.root]).root == old.root


def test_a_path_to_a_root_at_hand_is_preferred_to_one_that_ends_nowhere() -> None:
    new, old = authority("new root"), authority("old root")
    ca = new.intermediate("CA")
    crossed = cross_signed(old, ca)
    leaf = ca.issue("www.example.com").certificate
    assert best_path(leaf, [ca.certificate, crossed, old.root]).intermediates == (crossed,)
    assert best_path(leaf, [ca.certificate, crossed, new.root]).intermediates == (ca.certificate,)


def test_a_path_that_outlives_the_leaf_is_preferred() -> None:
    new, old = authority("new root"), authority("old root")
    ca = new.intermediate("CA")
    expired = cross_signed(old, ca, NOW - dt.timedelta(hours=1))
    leaf = ca.issue("www.example.com").certificate
    for candidates in ([expired, ca.certificate], [ca.certificate, expired]):
        path = best_path(leaf, [*candidates, new.root, old.root])
        assert path.intermediates == (ca.certificate,)


def test_a_cross_signed_root_is_kept_for_clients_that_lack_the_new_one() -> None:
    new, old = authority("new root"), authority("old root")
    ca = new.intermediate("CA")
    crossed = cross_signed(old, new)
    leaf = ca.issue("www.example.com").certificate
    path = best_path(leaf, [ca.certificate, crossed], [new.root, old.root])
    assert path.intermediates == (ca.certificate, crossed)
    assert path.root == old.root


def test_authorities_that_signed_each_other_do_not_make_it_run_in_circles() -> None:
    a, b = authority("A"), authority("B")
    candidates = [cross_signed(a, b), cross_signed(b, a)]
    leaf = a.issue("www.example.com").certificate
    assert best_path(leaf, candidates).intermediates == (candidates[1], candidates[0])


def test_a_root_whose_own_signature_cannot_be_checked_is_a_root_all_the_same() -> None:
    root = authority("old root", key="rsa", signed_with="md5")
    leaf = root.issue("www.example.com").certificate
    assert not is_self_signed(root.root)
    path = best_path(leaf, [root.root])
    assert (path.intermediates, path.root) == ((), root.root)


def test_a_chain_is_followed_as_far_as_any_verifier_does() -> None:
    ca = authority()
    for level in range(MAX_INTERMEDIATES + 2):
        ca = ca.intermediate(f"CA {level}")
    leaf = ca.issue("www.example.com")
    assert len(best_path(leaf.certificate, leaf.chain).intermediates) == MAX_INTERMEDIATES


@pytest.mark.timeout(60)
def test_hundreds_of_namesakes_that_signed_each_other_cost_little() -> None:
    key = new_key()
    subject = x509.Name.from_rfc4514_string("CN=namesake")
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(subject).public_key(key.public_key())
    builder = builder.not_valid_before(NOW).not_valid_after(NOW + dt.timedelta(days=1))
    namesakes = [builder.serial_number(number).sign(key, hashes.SHA256()) for number in range(1, 250)]
    leaf = authority("namesake", key=key).issue("www.example.com").certificate
    assert best_path(leaf, namesakes).root in namesakes
