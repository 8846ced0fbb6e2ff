"""Which cause is told where no path is good, and what browsers ask beyond OpenSSL."""

import datetime as dt
from dataclasses import replace

import pytest

from shared.bundle.link import Link
from shared.validation.trust import Chosen, Trust
from shared.verdict import VerdictCode
from tests.rigs.chain_family import family
from tests.rigs.chains import CLIENT, Chain, ca, chain, usages
from tests.rigs.handmade_certificate import (
    AUTHORITYS,
    CA_ONLY,
    EXTENDED_KEY_USAGE,
    KEY_USAGE,
    dates,
    extension,
    named,
    root,
)
from tests.rigs.handmade_pfx import sequence

FAMILY = family()


def chosen(made: Chain, *, browsers: bool = False) -> Chosen:
    trust = Trust(roots=made.roots(), name="roots.pem", browsers=browsers)
    others = [Link.read(other.der) for other in made.others]
    return trust.choose(Link.read(made.leaf.der), others, host="www.example.com", now=dt.datetime.now(dt.UTC))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("leaf: critical an unknown one", "(1.3.6.1.4.1.55738.666.1), so that they must refuse it"),
        (
            "root: critical subject key identifier",
            "its root 'CN=Root' has a critical extension that TLS clients do not",
        ),
        (
            "intermediate of version 1",
            "'CN=Issuing CA' has no basicConstraints that can be read, and so is no authority's",
        ),
        ("a twin alone: subjects permitted", "permit only the subject 'CN=another', and 'CN=www.example.com' has the"),
        ("a twin alone: names excluded", "its name constraints exclude 'example.com', and 'CN=www.example.com' has"),
        (
            "leaf: key identifier of another",
            "the authorityKeyIdentifier of 'CN=www.example.com' names another certificate",
        ),
        ("a namesake's certificate", "is not in the file: the certificate of that name there has another key"),
        (
            "a circle",
            "'CN=Left', which issued 'CN=Right', is in the file only with a certificate that the other issued",
        ),
        ("intermediate: broken basicConstraints", "its intermediate 'CN=Issuing CA' is malformed"),
        ("intermediate: a curve written out", "the key of its intermediate 'CN=Issuing CA' cannot be read"),
        ("another root trusted", "The chain ends in 'CN=handmade root', whose key is not that of a root"),
    ],
)
def test_the_cause_is_told_and_nothing_else(name: str, said: str) -> None:
    [objection] = chosen(FAMILY[name]).objections
    assert said in objection.detail
    assert "publishes now" not in objection.detail


def test_an_issuer_that_is_written_otherwise_is_told_and_no_key_identifier_that_is_not_there() -> None:
    top = root()
    above = ca(top, subject="Müller")
    [objection] = chosen(chain(replace(above, name=named("MÜLLER")), above, trusted=(top,))).objections
    assert "the name of its issuer 'CN=MÜLLER', and the authority whose key signed it 'CN=Müller'" in objection.detail
    assert "authorityKeyIdentifier" not in objection.detail


@pytest.mark.parametrize(
    ("own", "said"),
    [
        ((CA_ONLY, extension(KEY_USAGE, b"\3\1\0")), "keyUsage: none of its bits is set"),
        ((*AUTHORITYS, extension(EXTENDED_KEY_USAGE, sequence())), "extendedKeyUsage: its value is not what"),
    ],
)
def test_an_intermediate_that_says_nothing_where_it_must_is_malformed(own: tuple[bytes, ...], said: str) -> None:
    top = root()
    above = ca(top, own=own)
    [objection] = chosen(chain(above, above, trusted=(top,))).objections
    assert objection.code is VerdictCode.MALFORMED_CERTIFICATE
    assert said in objection.detail


def test_of_several_paths_the_one_that_comes_furthest_is_told_about() -> None:
    one, two = root("Root A"), root("Root B")
    middle = ca(two, own=(*AUTHORITYS, usages(CLIENT)), subject="Middle")
    good = ca(middle)
    lapsed = ca(one, key=good.key, validity=dates(-900, -1))
    stranger = ca(root("Stranger"), key=good.key)
    for others in ((lapsed, good, middle, stranger), (stranger, middle, good, lapsed)):
        [objection] = chosen(chain(good, *others, trusted=(one, two))).objections
        assert "its intermediate 'CN=Middle' may not issue server certificates" in objection.detail


@pytest.mark.parametrize(
    "name",
    [
        *("sound", "a circle with a way out", "a cross-signed root, both trusted", "intermediate: no keyUsage"),
        *("intermediate: names: permitted", "intermediate: names: the subject permitted"),
        *("leaf: critical policies", "intermediate: critical policies", "leaf: serverAuth, critical"),
        *("a twin, first: names permitted", "a twin, last: malformed"),
    ],
)
def test_browsers_take(name: str) -> None:
    assert chosen(FAMILY[name], browsers=True).objections == ()


@pytest.mark.parametrize(
    ("name", "said"),
    [
        (
            "intermediate: basicConstraints not critical",
            "'CN=Issuing CA' has its extension 2.5.29.19 critical, or not so",
        ),
        ("leaf: critical CRL distribution points", "has a critical extension that browsers do not know (2.5.29.31)"),
        ("root of version 1", "'CN=Root' breaks the rules of the web's authorities (certificate must be an X509v3"),
        ("issuer in another letter case", "'CN=Root CA' has its name spelled otherwise than where it is named"),
        ("intermediate: secp256k1", "'CN=Issuing CA' has a kind of key that browsers refuse"),
        ("intermediate: critical FALSE", "'CN=Issuing CA' is malformed, so that not every client reads it: extension"),
        ("a twin alone: names excluded", "its name constraints exclude 'example.com'"),
    ],
)
def test_browsers_refuse(name: str, said: str) -> None:
    [objection] = chosen(FAMILY[name], browsers=True).objections
    assert said in objection.detail
