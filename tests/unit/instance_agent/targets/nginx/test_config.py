"""What certcast writes into nginx's configuration, and what it lets a template and a setting put there."""

import os
import re
from collections.abc import Collection, Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from instance_agent.targets.base import InstalledBinding, ServerUnavailableError
from instance_agent.targets.nginx.config import (
    _imbalance,
    blocks_include,
    body_template,
    dynamic_include,
    host_block,
    server_body,
    token_of,
)
from instance_agent.targets.nginx.listens import addresses_of, not_claimed_in, taken_by_others, without_default
from instance_agent.targets.nginx.process import Nginx, _pid_file, _worker_group
from instance_agent.targets.nginx.settings import NginxSettings
from instance_agent.targets.parts.templates import ConfigTemplate
from shared.errors import ConfigurationError

EVERYWHERE = ("0.0.0.0", 443)  # noqa: S104 - as nginx calls it
TOKEN = "0123456789abcdef"
SETTINGS = NginxSettings.from_env(
    {
        "CERTCAST_NGINX_ADDRESS": "127.0.0.1",
        "CERTCAST_NGINX_PORTS": "443, 8443",
        "CERTCAST_NGINX_PORT_OFFSET": "1000",
    }
)


def dynamic(named: Mapping[int, Collection[str]]) -> str:
    fallback, template = Path("/x/fallback.pem"), body_template(None)
    return dynamic_include(SETTINGS, TOKEN, fallback=fallback, template=template, named=named, hash_sizes=True)


def blocks(defaults: Collection[int], *, hash_sizes: bool = True) -> str:
    return blocks_include(SETTINGS, TOKEN, fallback=Path("/x"), defaults=defaults, hash_sizes=hash_sizes)


def binding(host: str, site: str | None = None) -> InstalledBinding:
    return InstalledBinding(host=host, port=443, bundle_id="", fingerprint_sha256="00", site=site)


@pytest.mark.parametrize(
    "body",
    [
        "",
        "location / { return 204; }",
        "location / { return 200 '} {'; }",
        'location / { return 200 "it\'s \\" } fine"; }',
        "# a } comment\nlocation / { return 204; } # { another",
        "proxy_pass http://${host}/x;",
        "location ~ '^/a{2}$' { return 204; }",
        "return 200 a#b;",
        "return 200 a\\;b;",
    ],
)
def test_a_body_that_stays_inside_its_server_block_is_taken_as_it_is(body: str) -> None:
    assert server_body(ConfigTemplate(body, "x")) == body


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        ("}", "closes a brace that it did not open"),
        ("location / { return 204; } }\nserver {", "closes a brace that it did not open"),
        ("location / { return 204;", "does not close every brace"),
        ("return 200 'open;", "quotation mark"),
        ('return 200 "open;\n}', "quotation mark"),
        ("return 200 a\\", "ends with a backslash"),
        ("return 204", "semicolon"),
        ("location / { return 204; }\nreturn 204 # ;", "semicolon"),
    ],
)
def test_a_body_that_would_leave_its_server_block_is_refused(body: str, complaint: str) -> None:
    with pytest.raises(ConfigurationError, match=complaint):
        server_body(ConfigTemplate(body, "x"))


@given(st.text(alphabet="ab {};\"'#\\$\n", max_size=40))
def test_what_follows_a_body_that_is_taken_is_outside_of_it(body: str) -> None:
    if _imbalance(body) is None:
        assert _imbalance(f"{body}\n{body}") is None
        assert _imbalance(f"{body}\n}}") == "it closes a brace that it did not open"


def test_a_template_cannot_reach_what_python_has() -> None:
    for text in ("{{ ''.__class__.__mro__ }}", "{{ host.__init__.__globals__ }}"):
        with pytest.raises(ConfigurationError):
            ConfigTemplate(text, "x").render(host="a.example")


@pytest.mark.parametrize(
    "host",
    ["", "a b.example", "a;b.example", "../a.example", "A.example", "a.example\n}", "**", "*.com;", "~a.example"],
)
def test_what_is_no_host_name_becomes_part_of_no_configuration(host: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        host_block(SETTINGS, binding(host), pem=Path("/x.pem"), template=body_template(None))


def test_a_wildcards_block_covers_one_label() -> None:
    text = host_block(SETTINGS, binding("*.example.com"), pem=Path("/x.pem"), template=body_template(None))
    name = re.search(r'server_name "~(\S+)";', text)
    assert name
    for host, covered in {
        "a.example.com": True,
        "my_shop.example.com": True,
        "-x-.example.com": True,
        f"{'x' * 64}.example.com": False,
        "a.b.example.com": False,
        "example.com": False,
        "a.exampleXcom": False,
    }.items():
        assert bool(re.match(name[1], host)) is covered, host


def test_a_hosts_block_has_its_port_with_the_offset_and_a_site_cannot_end_its_first_line() -> None:
    text = host_block(SETTINGS, binding("a.example", "x\n}"), pem=Path("/a b/x.pem"), template=ConfigTemplate("", "x"))
    assert text.splitlines() == [
        '# certcast {"host": "a.example", "port": 443, "bundle": "", "site": "x\\n}"}',
        "server {",
        "    listen 127.0.0.1:1443 ssl;",
        "    server_name a.example;",
        '    ssl_certificate "/a b/x.pem";',
        '    ssl_certificate_key "/a b/x.pem";',
        "}",
    ]


def test_both_includes_tell_their_token_and_listen_on_every_port() -> None:
    for text in (
        dynamic(named={}),
        blocks(defaults=SETTINGS.ports),
    ):
        assert token_of(text) == TOKEN
        for port in (1443, 9443):
            assert f"listen 127.0.0.1:{port} ssl default_server;" in text
    assert token_of("server { }") == ""


def test_room_for_names_is_made_only_where_no_one_else_did() -> None:
    assert "server_names_hash" in blocks(defaults=SETTINGS.ports)
    assert "server_names_hash" not in blocks(defaults=SETTINGS.ports, hash_sizes=False)
    assert "server_names_hash" not in dynamic(named={})
    assert "server_names_hash" in dynamic(named={443: ["a.example"]})


def test_where_the_default_server_is_anothers_the_includes_claim_none_and_lua_is_found_by_name() -> None:
    one_of_two = dynamic(named={443: ["b.example", "*.a.example"]})
    assert "listen 127.0.0.1:9443 ssl default_server;" in one_of_two
    assert "listen 127.0.0.1:1443 ssl;\n    server_name " in one_of_two
    assert "b.example;" in one_of_two
    assert one_of_two.count("ssl_certificate_by_lua_block") == 2
    assert "default_server" not in dynamic(named={443: [], 8443: ["b.example"]})
    assert "127.0.0.1:1443" not in dynamic(named={443: [], 8443: []})
    assert "127.0.0.1:1443" not in blocks(defaults=[8443])
    assert "default_server" not in blocks(defaults=[])


def test_the_defaults_block_is_the_ports_default_server() -> None:
    text = host_block(SETTINGS, binding("*"), pem=Path("/x.pem"), template=body_template(None))
    assert "listen 127.0.0.1:1443 ssl default_server;\n    server_name _;" in text


def test_a_block_is_no_longer_the_default_server_of_an_address_that_it_gives_away() -> None:
    text = dynamic(named={})
    assert without_default(text, ("127.0.0.1", 443)) == text
    given = without_default(text, ("127.0.0.1", 1443))
    assert "listen 127.0.0.1:1443 ssl;" in given
    assert "listen 127.0.0.1:9443 ssl default_server;" in given
    assert not_claimed_in(given, SETTINGS).keys() == {443}


@pytest.mark.parametrize(
    ("listen", "addresses"),
    [
        ("443", {EVERYWHERE}),
        ("*:443", {EVERYWHERE}),
        ("192.0.2.1", {("192.0.2.1", 80)}),
        ("192.0.2.1:443", {("192.0.2.1", 443)}),
        ('"192.0.2.1:443"', {("192.0.2.1", 443)}),
        ("[::]:443", {("::", 443)}),
        ("[0:0::1]", {("::1", 80)}),
        ("192.0.2.1:8000-8002", {("192.0.2.1", 8000), ("192.0.2.1", 8001), ("192.0.2.1", 8002)}),
        ("unix:/run/x.sock", set()),
        ("192.0.2.1:$port", set()),
        ("no host.invalid:443", set()),
    ],
)
def test_what_a_listen_directive_stands_for(listen: str, addresses: set[tuple[str, int]]) -> None:
    assert set(addresses_of(listen)) == addresses


def test_a_name_in_a_listen_directive_is_what_the_resolver_says() -> None:
    assert ("127.0.0.1", 443) in set(addresses_of("localhost:443"))


@pytest.mark.parametrize(
    ("text", "taken"),
    [
        ("server { listen 127.0.0.1:1443 ssl default_server; }", {443}),
        ("server{listen 127.0.0.1:9443 default_server ssl;listen 127.0.0.1:1443 default;}", {443, 8443}),
        ("server {\n    listen\n 127.0.0.1:1443\n ssl\n default_server;\n}", {443}),
        ("server { listen 127.0.0.1:1443 ssl; }", set()),
        ("server { listen 1443 ssl default_server; }", set()),
        ("server { listen 127.0.0.1:1443 ssl; server_name default_server; }", set()),
    ],
)
def test_a_default_server_of_somebody_else_is_found(text: str, taken: set[int]) -> None:
    ours = {f"{SETTINGS.folder}/certcast.conf": "server { listen 127.0.0.1:1443 ssl default_server; }"}
    found = taken_by_others({"/etc/nginx/nginx.conf": text, **ours}, SETTINGS)
    assert found == dict.fromkeys(taken, "/etc/nginx/nginx.conf")


class TestSettings:
    def test_the_defaults_are_those_of_a_debian_machine(self) -> None:
        settings = NginxSettings.from_env({})
        assert (settings.command, settings.folder, settings.ports) == (("nginx",), Path("/etc/nginx/certcast"), (443,))
        assert settings.socket == Path("/run/certcast-nginx/control.sock")
        assert settings.endpoints.at(443) == ("127.0.0.1", 443)

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("MODE", "fast"),
            ("FOLDER", "relative/path"),
            ("FOLDER", '/etc/"; include /etc/passwd; #'),
            ("SOCKET", "/run/$host.sock"),
            ("SOCKET", "/" + "x" * 120),
            ("FALLBACK", "/a;b"),
            ("ADDRESS", "localhost; x"),
            ("ADDRESS", "::1"),
            ("PORTS", "https"),
            ("PORTS", "443 443"),
            ("PORTS", "0"),
            ("PORT_OFFSET", "-1"),
            ("LISTEN_OPTIONS", "http2; }"),
            ("COMMAND", "nginx 'open"),
        ],
    )
    def test_a_setting_that_cannot_be_meant_is_named(self, name: str, value: str) -> None:
        with pytest.raises(ConfigurationError, match=f"CERTCAST_NGINX_{name}"):
            NginxSettings.from_env({f"CERTCAST_NGINX_{name}": value})

    def test_ports_beyond_the_last_are_refused(self) -> None:
        with pytest.raises(ConfigurationError, match="CERTCAST_NGINX_PORT_OFFSET"):
            NginxSettings.from_env({"CERTCAST_NGINX_PORTS": "65000", "CERTCAST_NGINX_PORT_OFFSET": "1000"})


class TestTheProgram:
    def test_the_pid_file_is_the_configurations_else_the_builds(self) -> None:
        built = "configure arguments: --prefix=/opt/nginx --pid-path=/run/built.pid"
        assert _pid_file("user x; pid /run/own.pid;\n", built) == Path("/run/own.pid")
        assert _pid_file("worker_processes 2;", built) == Path("/run/built.pid")
        assert _pid_file("pid logs/own.pid;", built) == Path("/opt/nginx/logs/own.pid")

    def test_a_group_that_is_not_known_is_named(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("os.geteuid", lambda: 0)
        assert _worker_group("user root;", "") is None
        with pytest.raises(ServerUnavailableError, match="certcast-none"):
            _worker_group("user certcast-none;", "")
        monkeypatch.setattr("os.geteuid", lambda: 1000)
        assert _worker_group("user certcast-none;", "") is None

    def test_a_pid_file_that_outlived_nginx_names_no_master(self, tmp_path: Path) -> None:
        nginx = Nginx(["nginx"], timeout_s=1)
        nginx.pid_file = tmp_path / "nginx.pid"
        assert nginx.master() is None
        for stale in (str(os.getpid()), "4194304", "nonsense", ""):
            nginx.pid_file.write_text(stale)
            assert nginx.master() is None
            assert nginx.hang_up() is False

    async def test_what_is_not_nginx_is_named_with_the_setting(self) -> None:
        with pytest.raises(ConfigurationError, match="CERTCAST_NGINX_COMMAND is not nginx"):
            await Nginx(["false"], timeout_s=5).load()
        with pytest.raises(ConfigurationError, match="certcast-nowhere cannot be run"):
            await Nginx(["certcast-nowhere"], timeout_s=5).load()
        assert await Nginx(["certcast-nowhere"], timeout_s=5).version() == ""
