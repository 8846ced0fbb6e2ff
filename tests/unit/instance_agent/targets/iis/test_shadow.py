"""Why http.sys answered with another certificate, read from netsh in any language."""

import pytest

from instance_agent.targets.iis.shadow import IIS_APPLICATION, SslRecord, explain, lookup_order
from instance_agent.windows.http_sys import parse, show_sslcert
from tests.fakes.iis.changes import install, issue
from tests.fakes.iis.rig import WEB, Machine

HASH = "0123456789ABCDEF0123456789ABCDEF01234567"
OTHER = "89ABCDEF0123456789ABCDEF0123456789ABCDEF"
SHOP = "shop.example.com"

ENGLISH = f"""
SSL Certificate bindings:
-------------------------

    IP:port                      : 0.0.0.0:443
    Certificate Hash             : {HASH.lower()}
    Application ID               : {IIS_APPLICATION}
    Certificate Store Name       : My
    Verify Client Certificate Revocation : Enabled
    Verify Revocation Using Cached Client Certificate Only : Disabled
    Usage Check                  : Enabled
    Revocation Freshness Time    : 0
    URL Retrieval Timeout        : 0
    Ctl Identifier               : (null)
    Ctl Store Name               : (null)
    DS Mapper Usage              : Disabled
    Negotiate Client Certificate : Disabled

    Hostname:port                : Shop.example.com:443
    Certificate Hash             : {OTHER.lower()}
    Application ID               : {IIS_APPLICATION}
    Certificate Store Name       : WebHosting
    Verify Client Certificate Revocation : Enabled

    IP:port                      : [fe80::1]:8443
    Certificate Hash             : {HASH.lower()}
    Application ID               : {{afebb9ad-9b97-4a91-9ab5-daf4d59122f6}}
    Certificate Store Name       : (null)
    Verify Client Certificate Revocation : Enabled

    Central Certificate Store    : 443
    Certificate Hash             : (null)
    Application ID               : {IIS_APPLICATION}
    Certificate Store Name       : (null)
    Verify Client Certificate Revocation : Enabled
"""
GERMAN = f"""
SSL-Zertifikatbindungen:
-------------------------

    IP:Port                      : 10.0.0.4:443
    Zertifikathash               : {HASH.lower()}
    Anwendungs-ID                : {IIS_APPLICATION}
    Zertifikatspeichername       : My
    Clientzertifikatsperre überprüfen : Aktiviert

    Hostname:Port                : www.example.de:443
    Zertifikathash               : {OTHER.lower()}
    Anwendungs-ID                : {IIS_APPLICATION}
    Zertifikatspeichername       : My
"""
FRENCH = f"""
Liaisons de certificat SSL :
-------------------------

    Adresse IP:port              : 0.0.0.0:443
    Hachage du certificat        : {HASH.lower()}
    ID de l'application          : {IIS_APPLICATION}
    Nom du magasin de certificats : My
"""


class TestParse:
    def test_english(self) -> None:
        assert parse(ENGLISH) == (
            SslRecord(ip="0.0.0.0", port=443, thumbprint=HASH, application=IIS_APPLICATION, store="My"),  # noqa: S104
            SslRecord(host=SHOP, port=443, thumbprint=OTHER, application=IIS_APPLICATION, store="WebHosting"),
            SslRecord(ip="fe80::1", port=8443, thumbprint=HASH, application="{afebb9ad-9b97-4a91-9ab5-daf4d59122f6}"),
            SslRecord(port=443, application=IIS_APPLICATION),
        )

    def test_german_in_any_code_page(self) -> None:
        for text in (GERMAN, GERMAN.encode("cp850").decode("ascii", errors="replace"), GERMAN.replace("\n", "\r\n")):
            found = [(record.endpoint, record.thumbprint) for record in parse(text)]
            assert found == [("10.0.0.4:443", HASH), ("www.example.de:443", OTHER)]

    def test_french(self) -> None:
        assert [record.endpoint for record in parse(FRENCH)] == ["*:443"]

    @pytest.mark.parametrize(
        "text", ["", "\n\n", "Access is denied.", "The following command was not found: http show sslcert."]
    )
    def test_no_record_at_all(self, text: str) -> None:
        assert parse(text) == ()

    def test_where_there_is_no_netsh_nothing_is_known(self, tmp_path: object) -> None:
        assert show_sslcert(tmp_path) == ()  # type: ignore[arg-type]


class TestLookupOrder:
    def test_is_address_then_name_then_wildcard_then_central_store_then_all_addresses(self) -> None:
        central = SslRecord(port=443)
        everything = SslRecord(ip="0.0.0.0", port=443)  # noqa: S104
        wildcard = SslRecord(host="*.example.com", port=443)
        name = SslRecord(host=SHOP, port=443)
        address = SslRecord(ip="10.0.0.4", port=443)
        strangers = [
            SslRecord(ip="10.0.0.5", port=443),
            SslRecord(host="other.example.com", port=443),
            SslRecord(host=SHOP, port=444),
        ]
        records = [*strangers, everything, central, wildcard, name, address]
        found = lookup_order(records, address="10.0.0.4", port=443, host=SHOP)
        assert found == [address, name, wildcard, central, everything]


EVERY_ADDRESS = SslRecord(ip="0.0.0.0", port=443, thumbprint=OTHER)  # noqa: S104


def explained(*records: SslRecord, seen: str = OTHER, owners: dict[str, str] | None = None) -> str:
    return (
        explain(records, address="10.0.0.4", port=443, host=SHOP, seen={seen}, owners=owners or {})
        or "nothing is explained"
    )


class TestExplain:
    def test_a_record_for_the_address_is_named_with_its_binding_and_its_cure(self) -> None:
        text = explained(
            SslRecord(host=SHOP, port=443, thumbprint=HASH, application=IIS_APPLICATION),
            SslRecord(ip="10.0.0.4", port=443, thumbprint=OTHER, application=IIS_APPLICATION),
            owners={"10.0.0.4:443": "10.0.0.4:443: of site Web"},
        )
        assert "10.0.0.4:443: of site Web" in text
        assert "CERTCAST_IIS_CATCH_ALL=remove" in text
        assert "netsh http delete sslcert ipport=10.0.0.4:443" in text
        assert OTHER in text

    @pytest.mark.parametrize(
        ("records", "told"),
        [
            ([SslRecord(ip="10.0.0.4", port=443, thumbprint=OTHER, application=IIS_APPLICATION)], "left behind by IIS"),
            ([SslRecord(ip="10.0.0.4", port=443, thumbprint=OTHER, application="{12}")], "application {12}"),
            ([EVERY_ADDRESS], f"no record for {SHOP}:443"),
            ([EVERY_ADDRESS], "catch-all"),
            ([SslRecord(host="*.example.com", port=443, thumbprint=OTHER)], "record for *.example.com:443 answered"),
            ([SslRecord(port=443)], "Centralized Certificate Store answered"),
            ([SslRecord(host=SHOP, port=443, thumbprint=OTHER)], "still has another certificate"),
            ([EVERY_ADDRESS, SslRecord(host="*.example.com", port=443, thumbprint=HASH)], "catch-all"),
            ([], "another program"),
        ],
    )
    def test_what_answered_is_named_by_what_became_of_its_record(self, records: list[SslRecord], told: str) -> None:
        assert told in explained(*records)

    def test_a_right_record_that_was_not_seen_explains_nothing(self) -> None:
        text = explained(
            SslRecord(host=SHOP, port=443, thumbprint=HASH),
            EVERY_ADDRESS,
        )
        assert text == "nothing is explained"


async def test_the_target_names_the_shadowing_binding_of_the_address_it_probes(machine: Machine) -> None:
    fabric = issue("fabric.cloudapp.net")
    machine.stores.put(fabric)
    machine.iis.add_binding(WEB, "10.0.0.4:443:", flags=0, thumbprint=fabric.thumbprint)
    target = machine.target(probe_address="10.0.0.4")
    assert target.endpoint(443) == ("10.0.0.4", 443)
    await target.apply([install(SHOP)])
    text = await target.explain_mismatch(SHOP, 443, fabric.fingerprint) or ""
    assert "10.0.0.4:443: of site Web" in text
    assert fabric.thumbprint in text
