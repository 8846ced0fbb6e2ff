import datetime as dt
import time

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes

from shared.bundle import MAX_INTERMEDIATES
from shared.bundle.link import Link
from shared.validation.chain import Path, Search, canonical
from shared.validation.trust import Trust
from tests.rigs.certificates import Authority, Issued, authority, new_key, self_signed
from tests.rigs.chains import ca, leaf
from tests.rigs.handmade_certificate import CRITICAL_FALSE, Made, certificate, dates
from tests.rigs.handmade_certificate import root as handmade_root

NOW = dt.datetime.now(dt.UTC).replace(microsecond=0)
HOUR = dt.timedelta(hours=1)


def cross_signed(by: Authority, ca: Authority, not_after: dt.datetime | None = None) -> x509.Certificate:
    subject = ca.certificate.subject.rfc4514_string()
    return by.intermediate(subject, key=ca.key, not_after=not_after).certificate


def served(
    issued: Issued, *others: x509.Certificate, roots: tuple[x509.Certificate, ...] = ()
) -> list[x509.Certificate]:
    """The chain a leaf is served with; without roots where any is trusted."""
    trust = Trust(roots=roots or None, name="test roots" if roots else "off")
    links = [Link.of(other) for other in others]
    chosen = trust.choose(Link.of(issued.certificate), links, host="www.example.com", now=NOW)
    assert not roots or chosen.objections == ()
    return [link.view for link in chosen.chain]


def paths(of: x509.Certificate, *others: x509.Certificate, roots: tuple[x509.Certificate, ...] = ()) -> list[Path]:
    return list(Search.among(Link.of(of), list(map(Link.of, others)), list(map(Link.of, roots))).paths())


# Who issued whom


def test_the_chain_is_put_in_order_and_loses_root_strangers_and_duplicates() -> None:
    root = authority("root")
    upper = root.intermediate("upper")
    lower = upper.intermediate("lower")
    issued = lower.issue("www.example.com")
    stranger = authority("stranger").intermediate("stranger below").certificate
    jumbled = [root.root, upper.certificate, stranger, issued.certificate, lower.certificate, upper.certificate]
    assert served(issued, *jumbled) == [lower.certificate, upper.certificate]
    assert served(issued, *jumbled, roots=(root.root,)) == [lower.certificate, upper.certificate]


def test_a_namesake_that_did_not_sign_is_no_issuer() -> None:
    real, namesake = authority("CA").intermediate("below"), authority("CA").intermediate("below")
    [path] = paths(real.issue("www.example.com").certificate, namesake.certificate, namesake.root, real.certificate)
    assert path == Path(intermediates=(Link.of(real.certificate),), root=None)


def test_a_leaf_alone_has_no_chain() -> None:
    assert paths(authority().issue("www.example.com").certificate) == [Path(intermediates=(), root=None)]


def test_a_self_signed_leaf_needs_none() -> None:
    issued = self_signed("www.example.com")
    assert served(issued, issued.certificate, authority().root) == []
    assert paths(issued.certificate, roots=(issued.certificate,)) == [
        Path(intermediates=(), root=Link.of(issued.certificate), trusted=True)
    ]


def test_a_root_whose_own_signature_cannot_be_checked_is_a_root_all_the_same() -> None:
    root = authority("old root", key="rsa", signed_with="md5")
    [path] = paths(root.issue("www.example.com").certificate, root.root)
    assert path == Path(intermediates=(), root=Link.of(root.root))


def test_a_signature_that_the_library_does_not_check_is_checked_by_openssl() -> None:
    root = authority("root", key="rsa")
    issued = root.issue("www.example.com", signed_with="md5")
    assert [path.root for path in paths(issued.certificate, authority("root", key="ec").root, root.root)] == [
        Link.of(root.root)
    ]


def test_names_are_the_same_in_any_case_spacing_and_kind_of_string() -> None:
    one, two, other = ("CN=Root   CA,O=Shop", "CN=ROOT ca,O=shop", "O=Shop,CN=Root CA")
    same = [canonical(x509.Name.from_rfc4514_string(text)) for text in (one, two)]
    assert same[0] == same[1] != canonical(x509.Name.from_rfc4514_string(other))


def test_a_link_that_the_library_cannot_parse_is_one_where_openssl_says_so() -> None:
    root = handmade_root()
    odd = ca(root, CRITICAL_FALSE)
    stranger = ca(handmade_root(), CRITICAL_FALSE)
    below = leaf(odd)
    search = Search.among(*_links(below, stranger, odd), trusted=[Link.read(root.der)])
    assert list(search.paths()) == [Path(intermediates=(Link.read(odd.der),), root=Link.read(root.der), trusted=True)]


def _links(below: Made, *others: Made) -> tuple[Link, list[Link]]:
    return Link.read(below.der), [Link.read(other.der) for other in others]


# Which path is served


def test_a_trusted_root_decides_between_cross_signed_alternatives() -> None:
    new, old = authority("new root"), authority("old root")
    ca = new.intermediate("CA")
    crossed = cross_signed(old, ca)
    issued = ca.issue("www.example.com")
    candidates = [crossed, ca.certificate, new.root, old.root]
    assert served(issued, *candidates, roots=(new.root,)) == [ca.certificate]
    assert served(issued, *candidates, roots=(old.root,)) == [crossed]


def test_a_path_to_a_root_at_hand_is_preferred_to_one_that_ends_nowhere() -> None:
    new, old = authority("new root"), authority("old root")
    ca = new.intermediate("CA")
    crossed = cross_signed(old, ca)
    issued = ca.issue("www.example.com")
    assert served(issued, ca.certificate, crossed, old.root) == [crossed]
    assert served(issued, ca.certificate, crossed, new.root) == [ca.certificate]


def test_a_path_that_is_valid_is_preferred_whatever_the_order() -> None:
    new, old = authority("new root"), authority("old root")
    ca = new.intermediate("CA")
    issued = ca.issue("www.example.com")
    lapsed = cross_signed(old, ca, NOW - HOUR)
    for candidates in ([lapsed, ca.certificate], [ca.certificate, lapsed]):
        assert served(issued, *candidates) == [ca.certificate]
        assert served(issued, *candidates, new.root, old.root) == [ca.certificate]
        assert served(issued, *candidates, roots=(new.root, old.root)) == [ca.certificate]


def test_a_path_that_outlives_the_leaf_is_preferred() -> None:
    new, old = authority("new root"), authority("old root")
    ca = new.intermediate("CA")
    issued = ca.issue("www.example.com")
    ending = cross_signed(old, ca, NOW + HOUR)
    assert served(issued, ending, ca.certificate, roots=(new.root, old.root)) == [ca.certificate]


def test_a_path_without_weak_signatures_and_keys_is_preferred() -> None:
    strong, old = authority("strong"), authority("old", key="rsa")
    ca = strong.intermediate("CA")
    issued = ca.issue("www.example.com")
    weak = old.intermediate("CA", key=ca.key, signed_with="sha1").certificate
    above = old.intermediate("short", key="rsa1024")
    short = above.intermediate("CA", key=ca.key).certificate
    everything = (weak, short, above.certificate, ca.certificate)
    assert served(issued, *everything) == [ca.certificate]
    assert served(issued, *everything, roots=(old.root, strong.root)) == [ca.certificate]


def test_a_cross_signed_root_is_kept_for_clients_that_lack_the_new_one() -> None:
    new, old = authority("new root"), authority("old root")
    ca = new.intermediate("CA")
    crossed = cross_signed(old, new)
    issued = ca.issue("www.example.com")
    assert served(issued, ca.certificate, crossed, roots=(new.root, old.root)) == [ca.certificate, crossed]


def test_where_no_path_is_good_and_any_is_trusted_the_chain_that_was_meant_is_served() -> None:
    ca = authority("root").intermediate("CA", not_after=NOW - HOUR)
    assert served(ca.issue("www.example.com"), ca.certificate) == [ca.certificate]


@pytest.mark.parametrize("rule", ["names", "purpose", "authority", "critical"])
def test_a_good_path_is_served_where_any_root_is_trusted_too(rule: str) -> None:
    from tests.rigs.chain_family import bad_twins  # noqa: PLC0415

    kinds = {"names": "names permitted", "purpose": "not for servers", "authority": "no authority"}
    twin = bad_twins()[kinds.get(rule, "a critical extension")]
    one, two = handmade_root("Root A"), handmade_root("Root B")
    good = ca(one)
    bad = twin(two, good)
    below = leaf(good)
    trust = Trust(roots=None, name="off")
    for others in ((bad, good), (good, bad), (bad, two, good)):
        chosen = trust.choose(Link.read(below.der), _links(below, *others)[1], host="www.example.com", now=NOW)
        assert [link.der for link in chosen.chain] == [good.der]


# What it may cost


def test_authorities_that_signed_each_other_do_not_make_it_run_in_circles() -> None:
    a, b = authority("A"), authority("B")
    candidates = [cross_signed(a, b), cross_signed(b, a)]
    assert served(a.issue("www.example.com"), *candidates) == [candidates[1], candidates[0]]


def test_a_chain_is_followed_as_far_as_any_verifier_does() -> None:
    ca = authority()
    for level in range(MAX_INTERMEDIATES + 2):
        ca = ca.intermediate(f"CA {level}")
    issued = ca.issue("www.example.com")
    [path] = paths(issued.certificate, *issued.chain)
    assert len(path.intermediates) == MAX_INTERMEDIATES
    assert not path.whole


@pytest.mark.timeout(60)
def test_hundreds_of_namesakes_that_signed_each_other_cost_little() -> None:
    key = new_key()
    subject = x509.Name.from_rfc4514_string("CN=namesake")
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(subject).public_key(key.public_key())
    builder = builder.not_valid_before(NOW).not_valid_after(NOW + dt.timedelta(days=1))
    namesakes = [builder.serial_number(number).sign(key, hashes.SHA256()) for number in range(1, 250)]
    issued = authority("namesake", key=key).issue("www.example.com")
    assert served(issued, *namesakes) == []


@pytest.mark.timeout(60)
def test_a_short_path_out_of_a_mesh_of_cross_signed_authorities_is_found() -> None:
    """Ways through the mesh are as many as there are orders of ten; two certificates lead out of it."""
    root, mesh = authority("root"), [authority(f"CA {number}") for number in range(10)]
    crosses = [cross_signed(by, ca) for ca in mesh for by in mesh if by is not ca]
    issued, way_out = mesh[0].issue("www.example.com"), cross_signed(root, mesh[9])
    chain = served(issued, *crosses, way_out, roots=(root.root,))
    assert chain[-1] == way_out


@pytest.mark.parametrize("trusted", [False, True])
def test_many_twins_on_every_level_cost_little(*, trusted: bool) -> None:
    """Sixteen certificates for each of eight authorities: more paths than atoms in a file, and none is good."""
    root = handmade_root()
    levels: list[list[Made]] = []
    above = root
    for level in range(8):
        twins = [ca(above, CRITICAL_FALSE if trusted else b"", subject=f"CA {level}", serial=b"\x11\x01")]
        twins += [ca(above, subject=f"CA {level}", key=twins[0].key, serial=bytes([16, at])) for at in range(15)]
        levels.append(twins)
        above = twins[0]
    below = certificate(by=above, validity=dates())
    others = [Link.read(made.der) for twins in levels for made in twins]
    trust = Trust(roots=(x509.load_der_x509_certificate(root.der),) if trusted else None, name="off")
    begun = time.process_time()
    trust.choose(Link.read(below.der), others, host="www.example.com", now=NOW)
    assert time.process_time() - begun < 5
