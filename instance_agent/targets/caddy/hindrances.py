"""What in Caddy's configuration keeps it from asking the agent: certificates of its own go before those it asks for.

Caddy looks for a certificate in its memory first, for the name and for the wildcard, and asks its managers only where
it has none (seen on Caddy 2.6.2). What gets there is what its configuration loads, and what automatic HTTPS obtains for
the hosts of its routes, manager or not (Caddy's modules/caddyhttp/autohttps.go, automaticHTTPSPhase1).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from shared.phrasing import listed, shown

if TYPE_CHECKING:
    from collections.abc import Iterator

_HTTP_PORT = 80
_AUTOMATE = "automate"


def hindrances(configuration: object) -> tuple[str, ...]:
    """Each as a sentence that names what it is about and the cure.

    Args:
        configuration: As the admin API tells it; whatever it is, nothing is raised.
    """
    apps = _table(_table(configuration).get("apps"))
    found = []
    for name, server in _table(_table(apps.get("http")).get("servers")).items():
        if hosts := _managed(_table(server), _http_port(apps)):
            found.append(
                f"Caddy obtains certificates of its own for {listed(hosts)} (server {shown(name)}), which it serves in "
                "place of certcast's: set `auto_https off` or `disable_certs` in the Caddyfile's global options, "
                "automatic_https.disable_certificates in JSON"
            )
    loaders = _table(_table(apps.get("tls")).get("certificates"))
    if automated := [shown(str(host)) for host in _items(loaders.get(_AUTOMATE))]:
        found.append(
            f"Caddy obtains certificates of its own for {listed(automated)} (apps.tls.certificates.automate), which it "
            "serves in place of certcast's: take them out there"
        )
    if loading := [shown(name) for name, what in loaders.items() if name != _AUTOMATE and what]:
        found.append(
            f"Caddy's configuration loads certificates of its own (apps.tls.certificates: {listed(loading)}), which it "
            "serves in place of certcast's for the names in them: take out those that certcast is to serve"
        )
    return tuple(found)


def _managed(server: dict[str, Any], http_port: int) -> list[str]:
    """The hosts for which automatic HTTPS obtains certificates."""
    automatic = _table(server.get("automatic_https"))
    if automatic.get("disable") or automatic.get("disable_certificates"):
        return []
    listens = [str(each) for each in _items(server.get("listen"))]
    if listens and all(each.endswith(f":{http_port}") for each in listens):
        return []
    skipped = {*map(str, _items(automatic.get("skip"))), *map(str, _items(automatic.get("skip_certificates")))}
    return [shown(host) for host in dict.fromkeys(_hosts(server)) if host not in skipped]


def _hosts(server: dict[str, Any]) -> Iterator[str]:
    """The hosts that routes at the top match: Caddy looks no deeper."""
    for route in _items(server.get("routes")):
        for matchers in _items(_table(route).get("match")):
            yield from map(str, _items(_table(matchers).get("host")))


def _http_port(apps: dict[str, Any]) -> int:
    port = _table(apps.get("http")).get("http_port")
    return port if isinstance(port, int) else _HTTP_PORT


def _table(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _items(value: object) -> list[Any]:
    return value if isinstance(value, list) else []
