"""What the files target writes besides PEM files: an administrator's templates, once per binding or once for all.

`each/<suffix>.j2` becomes `rendered/<port>/<host>.<suffix>` for every binding, `all/<name>.j2` becomes
`rendered/<name>`. The default of a port is no host: it is among the values of the latter by another name, so that a
template that knows of none takes it for no host either. Nothing is written here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from instance_agent.targets.base import Install
from instance_agent.targets.parts.pem_file import PEM_SUFFIX, file_name
from instance_agent.targets.parts.templates import ConfigTemplate
from shared.errors import ConfigurationError
from shared.hostnames import DEFAULT_HOST

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from instance_agent.targets.base import InstalledBinding

TEMPLATE_SUFFIX = ".j2"
_SUFFIX = re.compile(r"[a-z0-9][a-z0-9._-]{0,31}\Z")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}\Z")
_FALLBACKS = "fallbacks"
_FIRST_CERTIFICATE = "-----BEGIN CERTIFICATE-----"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rendered:
    """A binding as templates see it.

    Attributes:
        host: Host name; `*.parent` for a wildcard; `*` for the default.
        name: The host as it stands in file names: `_.parent` for a wildcard, `_default_` for the default.
        wildcard: Whether it is one.
        parent: What follows the first label.
        port: PortNumber.
        listen_port: The port that the server listens on for it.
        site: SiteName; empty where none was given.
        bundle_id: Id of the bundle.
        fingerprint_sha256: Of the leaf.
        pem: Path of its PEM file.
    """

    host: str
    name: str
    wildcard: bool
    parent: str
    port: int
    listen_port: int
    site: str
    bundle_id: str
    fingerprint_sha256: str
    pem: str


def rendered(binding: Install | InstalledBinding, *, pem: Path, listen_port: int) -> Rendered:
    """A binding's values for templates.

    Raises:
        ValueError: The host is none.
    """
    fingerprint = binding.bundle.fingerprint_sha256 if isinstance(binding, Install) else binding.fingerprint_sha256
    return Rendered(
        host=binding.host,
        name=file_name(binding.host),
        wildcard=binding.host.startswith("*."),
        parent=binding.host.partition(".")[2],
        port=binding.port,
        listen_port=listen_port,
        site=binding.site or "",
        bundle_id=binding.bundle_id,
        fingerprint_sha256=fingerprint,
        pem=str(pem),
    )


class FileTemplates:
    """All templates of the folder named in the settings."""

    def __init__(self, folder: Path | None, rendered_folder: Path, *, fallback: Path) -> None:
        """Read them.

        Args:
            folder: Holds `each` and `all`; None for no templates.
            rendered_folder: Where the results belong.
            fallback: The PEM for unknown names.

        Raises:
            ConfigurationError: One cannot be read, or its name is not usable.
        """
        self._folder = rendered_folder
        self._fallback = str(fallback)
        self._each = {} if folder is None else _load(folder / "each", _SUFFIX)
        self._all = {} if folder is None else _load(folder / "all", _NAME)
        if folder is not None and not self._each and not self._all:
            raise ConfigurationError(f"CERTCAST_FILES_TEMPLATES: {folder} has no each/*.j2 and no all/*.j2")

    @property
    def take_default(self) -> bool:
        """Whether the default of a port can reach the server: a template about all bindings must ask for it."""
        return not self._all or any(template.uses(_FALLBACKS) for template in self._all.values())

    @property
    def longest_suffix(self) -> int:
        """Characters that the longest name of a binding's file has after its host."""
        return max([len(PEM_SUFFIX), *(len(suffix) + 1 for suffix in self._each)])

    def paths(self, host: str, port: int) -> list[Path]:
        """The files rendered for one binding."""
        return [self._folder / str(port) / f"{file_name(host)}.{suffix}" for suffix in self._each]

    def each(self, binding: Rendered, pem: bytes) -> dict[Path, bytes]:
        """One binding's files.

        Args:
            binding: Its values.
            pem: Content of its PEM file, tag included.

        Raises:
            ConfigurationError: A template is wrong.
        """
        key_pem, mark, rest = pem.decode("ascii").partition("\n")[2].partition(_FIRST_CERTIFICATE)
        values = {name: getattr(binding, name) for name in Rendered.__slots__}
        return {
            self._folder / str(binding.port) / f"{binding.name}.{suffix}": template.render(
                **values, key_pem=key_pem, chain_pem=mark + rest, fallback=self._fallback
            ).encode()
            for suffix, template in self._each.items()
        }

    def all(self, bindings: Iterable[Rendered]) -> dict[Path, bytes]:
        """The files about all bindings: exact hosts come first, then wildcards, those with more labels earlier.

        Raises:
            ConfigurationError: A template is wrong.
        """
        ordered = sorted(bindings, key=lambda each: (each.wildcard, -each.host.count("."), each.host, each.port))
        fallbacks = dict.fromkeys(sorted({each.listen_port for each in ordered}), self._fallback)
        fallbacks |= {each.listen_port: each.pem for each in ordered if each.host == DEFAULT_HOST}
        values = {
            "bindings": [each for each in ordered if each.host != DEFAULT_HOST],
            "fallback": self._fallback,
            _FALLBACKS: fallbacks,
        }
        return {self._folder / name: template.render(**values).encode() for name, template in self._all.items()}


def _load(folder: Path, names: re.Pattern[str]) -> Mapping[str, ConfigTemplate]:
    found = {}
    for path in sorted(folder.glob(f"*{TEMPLATE_SUFFIX}")):
        name = path.name.removesuffix(TEMPLATE_SUFFIX)
        if not names.match(name) or name.isdecimal():
            raise ConfigurationError(f"CERTCAST_FILES_TEMPLATES: no file can be called after {path}: rename it")
        found[name] = ConfigTemplate.load(path)
    return found
