"""Which record of http.sys answers, and why it was another than expected."""

import pytest

from instance_agent.targets.iis.records import IIS_APPLICATION, SslRecord
from instance_agent.targets.iis.shadow import explain, lookup_order
from shared.hostnames import DEFAULT_HOST
from tests.fakes.iis.changes import install, issue
from tests.fakes.iis.rig import WEB, Machine

HASH = "0123456789ABCDEF0123456789ABCDEF01234567"
OTHER = "89ABCDEF0123456789ABCDEF0123456789ABCDEF"
SHOP = "shop.example.com"


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


def test_a_client_without_sni_gets_the_record_for_all_addresses_last() -> None:
    name, wildcard = SslRecord(host=SHOP, port=443), SslRecord(host="*.example.com", port=443)
    address = SslRecord(ip="10.0.0.4", port=443)
    records = [EVERY_ADDRESS, name, wildcard, address]
    assert lookup_order(records, address="10.0.0.4", port=443, host=DEFAULT_HOST) == [address, EVERY_ADDRESS]
    text = explain(records, address="10.0.0.5", port=443, host=DEFAULT_HOST, seen={OTHER}, owners={}) or ""
    assert text.startswith("http.sys still has another certificate for *:443")


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
