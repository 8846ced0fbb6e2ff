"""The text of the nginx configuration that certcast writes, and what an administrator's template may put into it.

Paths come from the settings, where they were checked; host names are checked here once more. Nothing is written here.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from instance_agent.targets.parts.pem_file import tag
from instance_agent.targets.parts.templates import ConfigTemplate
from shared.errors import ConfigurationError
from shared.hostnames import ASKED_LABEL, DEFAULT_HOST, normalise_host

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping
    from pathlib import Path

    from instance_agent.targets.base import Install, InstalledBinding
    from instance_agent.targets.nginx.settings import NginxSettings

MAIN_NAME = "certcast.conf"
LUA_NAME = "certcast.lua"
LIVE_NAME = "live"
BLOCKS_NAME = "blocks"

_TOKEN = re.compile(r"^# certcast ([0-9a-f]{16}): ")
_HEAD = "# certcast {token}: written by the certcast agent, which overwrites it (docs/targets/nginx.md)\n"
_STOCK_ANSWER = 'return 200 "certcast {token} 0\\n";'
_HASH_SIZES = "server_names_hash_max_size 65536;\nserver_names_hash_bucket_size 512;\n"
_DEFAULT_BODY = """ssl_protocols TLSv1.2 TLSv1.3;
location / {
    default_type text/plain;
    return 200 "nginx with certcast: set CERTCAST_NGINX_TEMPLATE to say what is served here\\n";
}
"""
# A quotation mark, a comment and a closing brace are such only where a word could begin; `${` is part of a word.
_WORD = re.compile(
    r"""
    (?P<skipped>\s+|\#[^\n]*)
    | (?P<quoted>"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*')
    | [;{}]
    | (?:\\.|\$\{|[^\s;{\\])+
    """,
    re.DOTALL | re.VERBOSE,
)
_DIRECTIVE_ENDS = ";{}"
_CLAIM = " default_server"


def body_template(path: Path | None) -> ConfigTemplate:
    """The template of a server block's body.

    Raises:
        ConfigurationError: It cannot be read.
    """
    return ConfigTemplate.load(path) if path else ConfigTemplate(_DEFAULT_BODY, "that certcast brings")


def token_of(text: str) -> str:
    """The token a main include was written with; empty when it is none of ours."""
    found = _TOKEN.match(text)
    return found[1] if found else ""


def is_dynamic(text: str) -> bool:
    """Whether a main include of ours is the one for nginx with its Lua module."""
    return "\nlua_shared_dict certcast " in text


def dynamic_include(
    settings: NginxSettings,
    token: str,
    *,
    fallback: Path,
    template: ConfigTemplate,
    named: Mapping[int, Collection[str]],
    hash_sizes: bool,
) -> str:
    """The include for nginx with its Lua module: one server block for all hosts.

    Args:
        settings: The settings.
        token: What nginx is to answer once it has loaded this.
        fallback: The certificate for unknown names.
        template: The body of the server block.
        named: The hosts of each PortNumber whose default server is somebody else's: nginx gives us there what it finds
            by name, so that a block of our own lists them.
        hash_sizes: Whether to make room for those, which may be set once only.
    """
    folder = settings.folder
    # Loaded by path: lua_package_path and init_by_lua may be set once only, and may be others'.
    load = (
        f'local certcast = package.loaded["certcast"] or dofile("{folder / LUA_NAME}"); '
        'package.loaded["certcast"] = certcast;'
    )
    choose = f'certcast.choose("{folder / LIVE_NAME}", {settings.endpoints.port_offset})'
    body = _indented(server_body(template, ports=settings.ports))
    tail = f"    ssl_certificate_by_lua_block {{ {load} {choose} }}\n{body}}}\n"
    blocks = [
        f"server {{\n{_listen(settings, port)}    server_name {_server_names(hosts)};\n{_certificate(fallback)}{tail}"
        for port, hosts in sorted(named.items())
        if hosts
    ]
    if defaults := [port for port in settings.ports if port not in named]:
        blocks.insert(0, f"{_default_block(settings, defaults, fallback)}{tail}")
    answer = f'content_by_lua_block {{ {load} certcast.answer("{token}") }}'
    head = (
        f"{_HEAD.format(token=token)}"
        "lua_shared_dict certcast 64k;\n"
        f"{_HASH_SIZES if hash_sizes and named else ''}\n"
        f"{_socket_block(settings, answer)}"
    )
    return head + "\n".join(blocks)


def blocks_include(
    settings: NginxSettings, token: str, *, fallback: Path, defaults: Collection[int], hash_sizes: bool
) -> str:
    """The include for stock nginx: the block for unknown names, and all hosts' blocks.

    Args:
        settings: The settings.
        token: What nginx is to answer once it has loaded this.
        fallback: The certificate of the block for unknown names.
        defaults: The PortNumbers that this block is for: not those whose default server is another.
        hash_sizes: Whether to make room for many and for long names, which may be set once only.
    """
    default = (
        f"{_default_block(settings, sorted(defaults), fallback)}"
        "    ssl_protocols TLSv1.2 TLSv1.3;\n"
        "    location / {\n        default_type text/plain;\n"
        '        return 421 "No certificate is installed for this name.\\n";\n    }\n}\n\n'
    )
    return (
        f"{_HEAD.format(token=token)}"
        f"{_HASH_SIZES if hash_sizes else ''}\n"
        f"{_socket_block(settings, _STOCK_ANSWER.format(token=token))}"
        f"{default if defaults else ''}"
        f"include {_quoted(settings.folder / BLOCKS_NAME)}/*/*.conf;\n"
    )


def host_block(
    settings: NginxSettings, binding: Install | InstalledBinding, *, pem: Path, template: ConfigTemplate
) -> str:
    """The server block for one host and port; for the default it is the port's default server.

    Raises:
        ValueError: The host is none.
        ConfigurationError: The template is wrong.
    """
    default = binding.host == DEFAULT_HOST
    if not default and normalise_host(binding.host) != binding.host:
        raise ValueError(f"'{binding.host}' may not become part of a configuration")
    body = server_body(template, host=binding.host, port=binding.port, site=binding.site or "")
    return (
        f"{tag(binding)}"
        f"server {{\n{_listen(settings, binding.port, _CLAIM if default else '')}"
        f"    server_name {_server_names([binding.host])};\n{_certificate(pem)}{_indented(body)}}}\n"
    )


def server_body(template: ConfigTemplate, **values: object) -> str:
    """The template filled in, if it stays inside the server block that it is put into.

    Raises:
        ConfigurationError: It does not, or it uses what it is not given.
    """
    body = template.render(**values)
    trouble = _imbalance(body)
    if trouble:
        raise ConfigurationError(f"the template {template.origin} is not the inside of a server block: {trouble}")
    return body


def _imbalance(text: str) -> str | None:
    """What is not closed, or closed too often, when nginx reads this (ngx_conf_read_token in its ngx_conf_file.c)."""
    depth, at, finished = 0, 0, True
    while at < len(text):
        word = _WORD.match(text, at)
        if word is None or (word[0][0] in "\"'" and not word["quoted"]):
            return "it does not close a quotation mark, or ends with a backslash"
        at = word.end()
        if word["skipped"]:
            continue
        if word[0] in "{}":
            depth += 1 if word[0] == "{" else -1
        if depth < 0:
            return "it closes a brace that it did not open"
        finished = word[0] in _DIRECTIVE_ENDS
    if depth:
        return "it does not close every brace that it opens"
    return None if finished else "its last directive does not end with a semicolon"


def _server_names(hosts: Iterable[str]) -> str:
    """Hosts as nginx's server_name has them; `_` is the name of no host (nginx.org, "Server names")."""
    return "\n        ".join(sorted("_" if host == DEFAULT_HOST else _server_name(host) for host in hosts))


def _server_name(host: str) -> str:
    """One; nginx's own `*.` would cover any number of labels, and a certificate's covers one."""
    return rf'"~^{ASKED_LABEL}\.{re.escape(host[2:])}$"' if host.startswith("*.") else host


def _socket_block(settings: NginxSettings, answer: str) -> str:
    """The server block on the control socket; `answer` is the directive that tells the token."""
    return (
        f"server {{\n    listen unix:{_quoted(settings.socket)};\n    access_log off;\n"
        f"    location = /generation {{\n        default_type text/plain;\n        {answer}\n    }}\n}}\n\n"
    )


def _default_block(settings: NginxSettings, ports: Iterable[int], fallback: Path) -> str:
    """The beginning of the server block for every name that has none of its own."""
    listens = "".join(_listen(settings, port, _CLAIM) for port in ports)
    return f"server {{\n{listens}    server_name _;\n{_certificate(fallback)}"


def _listen(settings: NginxSettings, port: int, tail: str = "") -> str:
    endpoints, options = settings.endpoints, f" {settings.listen_options}" if settings.listen_options else ""
    return f"    listen {endpoints.address}:{endpoints.listened_on(port)} ssl{tail}{options};\n"


def _certificate(pem: Path) -> str:
    return f"    ssl_certificate {_quoted(pem)};\n    ssl_certificate_key {_quoted(pem)};\n"


def _quoted(path: Path) -> str:
    text = str(path)
    return f'"{text}"' if " " in text else text


def _indented(text: str) -> str:
    return text if text.endswith("\n") or not text else f"{text}\n"
