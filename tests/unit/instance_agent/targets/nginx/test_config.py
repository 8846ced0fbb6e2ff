"""What certcast writes into nginx's configuration, and what it lets a template and a setting put there."""

import os
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from instance_agent.targets.base import InstalledBinding
from instance_agent.targets.nginx.config import (
    _imbalance,
    blocks_include,
    body_template,
    dynamic_include,
    host_block,
    server_body,
    token_of,
)
from instance_agent.targets.nginx.process import Nginx, _pid_file, _worker_group
from instance_agent.targets.nginx.settings import NginxSettings
from instance_agent.targets.parts.templates import ConfigTemplate
from shared.errors import ConfigurationError

TOKEN = "0123456789abcdef"
SETTINGS = NginxSettings.from_env(
    {
        "CERTCAST_NGINX_ADDRESS": "127.0.0.1",
        "CERTCAST_NGINX_PORTS": "443, 8443",
        "CERTCAST_NGINX_PORT_OFFSET": "1000",
    }
)


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
    "host", ["", "a b.example", "a;b.example", "../a.example", "A.example", "a.example\n}", "*", "*.com;", "~a.example"]
)
def test_what_is_no_host_name_becomes_part_of_no_configuration(host: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        host_block(SETTINGS, binding(host), pem=Path("/x.pem"), template=body_template(None))


def test_a_wildcards_block_covers_one_label() -> None:
    text = host_block(SETTINGS, binding("*.example.com"), pem=Path("/x.pem"), template=body_template(None))
    name = re.search(r"server_name ~(\S+);", text)
    assert name
    for host, covered in {
        "a.example.com": True,
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
    fallback = Path("/x/fallback.pem")
    for text in (
        dynamic_include(SETTINGS, TOKEN, fallback=fallback, template=body_template(None)),
        blocks_include(SETTINGS, TOKEN, fallback=fallback, hash_sizes=True),
    ):
        assert token_of(text) == TOKEN
        for port in (1443, 9443):
            assert f"listen 127.0.0.1:{port} ssl default_server;" in text
    assert token_of("server { }") == ""


def test_room_for_names_is_made_only_where_no_one_else_did() -> None:
    assert "server_names_hash" not in blocks_include(SETTINGS, TOKEN, fallback=Path("/x"), hash_sizes=False)


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
        with pytest.raises(ConfigurationError, match="certcast-none"):
            _worker_group("user certcast-none;", "")
        monkeypatch.setattr("os.geteuid", lambda: 1000)
        assert _worker_group("user certcast-none;", "") is None

    def test_a_pid_file_that_outlived_nginx_names_no_master(self, tmp_path: Path) -> None:
        nginx = Nginx(["nginx"], timeout_s=1)
        nginx._pid_file = tmp_path / "nginx.pid"
        assert nginx.master() is None
        for stale in (str(os.getpid()), "4194304", "nonsense", ""):
            nginx._pid_file.write_text(stale)
            assert nginx.master() is None
            assert nginx.hang_up() is False

    async def test_what_is_not_nginx_is_named_with_the_setting(self) -> None:
        with pytest.raises(ConfigurationError, match="CERTCAST_NGINX_COMMAND is not nginx"):
            await Nginx(["false"], timeout_s=5).load()
        with pytest.raises(ConfigurationError, match="certcast-nowhere cannot be run"):
            await Nginx(["certcast-nowhere"], timeout_s=5).load()
        assert await Nginx(["certcast-nowhere"], timeout_s=5).version() == ""
