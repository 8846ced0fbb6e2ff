"""Settings of the Function that stand in an operator's environment, judged as the Function would judge them."""

import pytest

from operator_cli.doctor.settings import settings_seen

WRONG = {
    "CERTCAST_PORTS": "0",
    "CERTCAST_SCRUB_PASSWORD": "perhaps",
    "CERTCAST_WEBHOOK": "ftp://example.com",
    "CERTCAST_WEBHOOK_SECRET": "secret-7411",
    "CERTCAST_EVENT_SOURCE": "not a URI",
    "CERTCAST_DASHBOARD_SIGN_IN": "somehow",
}


def test_each_wrong_one_is_named_however_many_there_are_and_no_secret_is_told() -> None:
    seen = settings_seen(WRONG | {"CERTCAST_TRUST": "public", "CERTCAST_STORAGE": "UseDevelopmentStorage=true"})
    assert sorted(finding.about for finding in seen.findings) == sorted(WRONG)
    assert "secret-7411" not in repr(seen)


@pytest.mark.parametrize("name", sorted(WRONG))
def test_one_alone_is_named(name: str) -> None:
    assert [finding.about for finding in settings_seen({name: WRONG[name]}).findings] == [name]


def test_what_is_an_agents_or_right_is_none_of_its_findings() -> None:
    seen = settings_seen({"CERTCAST_PORTS": "443, 8443", "CERTCAST_TARGET": "nginx", "CERTCAST_KEY_VAULTS": "shop"})
    assert seen.findings == ()
