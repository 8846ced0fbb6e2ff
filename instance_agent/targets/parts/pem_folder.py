"""One PEM file for each host and port in a folder of ours: their names, their tags, reading them back.

A file is `<folder>/<port>/<host>.pem`, `_.<parent>.pem` for a wildcard. Its first line is the tag, which PEM readers
skip: what has none, or one for another host, was made by hand and is never touched. What a server does with the files
is unknown here.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import os
import re
import ssl
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from instance_agent.targets.base import ApplyError, InstalledBinding, ServerUnavailableError
from instance_agent.targets.parts.key_loading import load_bundle
from shared.bundle import BUNDLE_ID
from shared.hostnames import normalise_host

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

    from instance_agent.targets.base import Install

TAG = "# certcast "
PEM_SUFFIX = ".pem"
_LONGEST_NAME = 255  # NAME_MAX of every usual file system
_ROOM_FOR_SUFFIX = 5
_MAX_PORT = 65535
_PORT = re.compile(r"[1-9][0-9]{0,4}\Z")
_LEAF = re.compile(rb"-----BEGIN CERTIFICATE-----(.+?)-----END CERTIFICATE-----", re.DOTALL)

_FEW = 100
"""More files than these are not read one by one: going through what is known of all of them is quicker."""

_LOOK_AGAIN_S = 60.0
"""A file that was edited in its place changes no name: it is noticed by then."""

Key = tuple[str, int]
_State = tuple[int, int, int]


def file_name(host: str) -> str:
    """The host as part of a file name.

    Raises:
        ValueError: It is not a normalised host name, so nothing may be called after it.
    """
    if normalise_host(host) != host:
        raise ValueError(f"'{host}' is not in the form that certcast keeps host names in")
    return f"_{host[1:]}" if host.startswith("*.") else host


def name_refusal(change: Install) -> str | None:
    """Why no file can be called after the change's host and port; None when one can."""
    return _key_refusal(*change.key)


def _key_refusal(host: str, port: int) -> str | None:
    try:
        name = file_name(host)
    except ValueError as error:
        return str(error)
    if not 0 < port <= _MAX_PORT:
        return f"{host}:{port} has no port: ports are 1 to {_MAX_PORT}"
    if len(name) + _ROOM_FOR_SUFFIX > _LONGEST_NAME:
        return f"{host} is too long for the name of a file on this machine"
    return None


def tag(binding: Install | InstalledBinding) -> str:
    """The line that marks a file as ours and tells what the certificate alone does not."""
    told = {"host": binding.host, "port": binding.port, "bundle": binding.bundle_id, "site": binding.site}
    return f"{TAG}{json.dumps(told)}\n"


def tagged_pem(change: Install) -> bytes:
    """A file's whole content: tag, key, leaf, intermediates.

    Raises:
        ApplyError: OpenSSL does not serve it: the key is another's, or either is too weak. Said here because some
            servers end, rather than go on, when they meet such a file at a reload.
        ServerUnavailableError: It cannot be tried now.
    """
    bundle = change.bundle
    trouble = ""
    if bundle.leaf.public_key() != bundle.key.public_key():
        trouble = "its private key does not belong to it"
    else:
        try:
            load_bundle(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), bundle)
        except ssl.SSLError as error:
            trouble = (error.reason or "unknown reason").replace("_", " ").lower()
        except OSError as error:
            raise ServerUnavailableError(
                f"the certificate for {change.host}:{change.port} cannot be tried now: {error.strerror}"
            ) from error
    if trouble:
        raise ApplyError(
            f"the certificate for {change.host}:{change.port} cannot be served: {trouble}", culprit=change.key
        )
    return tag(change).encode() + bundle.to_pem()


@dataclass(slots=True, kw_only=True)
class _Port:
    """What is known of one port's folder.

    Attributes:
        changed_ns: When names were last added to it or taken away.
        looked: When every file was last looked at.
        files: State and content of each file, by name.
    """

    changed_ns: int
    looked: float
    files: dict[str, tuple[_State, InstalledBinding | None]]


class PemFolder:
    """The folder. What was read is kept while nothing in the folder changes its name, for a minute at most."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._ports: dict[str, _Port] = {}

    def path(self, host: str, port: int) -> Path:
        """The file for a host and port.

        Raises:
            ValueError: They are none.
        """
        return self.folder / str(port) / f"{file_name(host)}{PEM_SUFFIX}"

    def read(self, keys: Collection[Key] | None = None) -> dict[Key, InstalledBinding]:
        """What is tagged as ours, of these keys or of all.

        Raises:
            OSError: The folder cannot be read.
        """
        if keys is not None and len(keys) <= _FEW:
            return {key: binding for key in keys if (binding := self.at(key)) is not None}
        folders = sorted(self.folder.iterdir()) if self.folder.is_dir() else []
        self._ports = {each.name: self._look(each) for each in folders if _PORT.match(each.name) and each.is_dir()}
        every = (binding for port in self._ports.values() for _, binding in port.files.values())
        ours = {binding.key: binding for binding in every if binding is not None}
        return ours if keys is None else {key: ours[key] for key in keys if key in ours}

    def at(self, key: Key) -> InstalledBinding | None:
        """What is tagged as ours for one host and port, read now."""
        if _key_refusal(*key) is not None:
            return None
        try:
            return self._parse(self.path(*key))
        except (FileNotFoundError, NotADirectoryError):
            return None

    def foreign(self, changes: Iterable[Install]) -> Install | None:
        """The first change whose file is there already, made by hand."""
        return next((each for each in changes if self.path(*each.key).exists() and self.at(each.key) is None), None)

    @contextmanager
    def changing(self, keys: Iterable[Key]) -> Iterator[None]:
        """Say which files are changed within, so that the others need not be looked at because of it."""
        known = {name for name, port in self._ports.items() if port.changed_ns == self._changed_ns(name)}
        yield
        for host, port in keys:
            if str(port) in known:
                path = self.path(host, port)
                self._ports[str(port)].files.pop(path.name, None)
                with suppress(FileNotFoundError):
                    self._ports[str(port)].files[path.name] = (_state(path.stat()), self._parse(path))
        for name in known:
            self._ports[name].changed_ns = self._changed_ns(name)

    def _changed_ns(self, name: str) -> int:
        try:
            return (self.folder / name).stat().st_mtime_ns
        except FileNotFoundError:
            return 0

    def _look(self, folder: Path) -> _Port:
        """Read one port's folder; a file's content only where its state is new."""
        known = self._ports.get(folder.name)
        now = time.monotonic()
        changed_ns = self._changed_ns(folder.name)
        if known and known.changed_ns == changed_ns and now - known.looked < _LOOK_AGAIN_S:
            return known
        before = known.files if known else {}
        files: dict[str, tuple[_State, InstalledBinding | None]] = {}
        with os.scandir(folder) as entries:
            for entry in entries:
                if not entry.name.endswith(PEM_SUFFIX):
                    continue
                with suppress(FileNotFoundError):
                    state = _state(entry.stat())
                    same = before.get(entry.name)
                    files[entry.name] = same if same and same[0] == state else (state, self._parse(Path(entry.path)))
        return _Port(changed_ns=changed_ns, looked=now, files=files)

    def _parse(self, path: Path) -> InstalledBinding | None:
        """The binding a file holds; None for one that is not ours or not whole."""
        content = path.read_bytes()
        line, _, pem = content.partition(b"\n")
        leaf = _LEAF.search(pem)
        if not line.startswith(TAG.encode()) or leaf is None:
            return None
        try:
            told = json.loads(line[len(TAG) :])
            host, port, bundle_id, site = told["host"], told["port"], told["bundle"], told["site"]
            der = base64.b64decode(leaf[1])
            if self.path(host, port) != path:
                return None
        except (ValueError, KeyError, TypeError, AttributeError, binascii.Error):
            return None
        return InstalledBinding(
            host=host,
            port=port,
            bundle_id=bundle_id if isinstance(bundle_id, str) and BUNDLE_ID.match(bundle_id) else "",
            fingerprint_sha256=hashlib.sha256(der).hexdigest(),
            site=site if isinstance(site, str) else None,
        )


def _state(there: os.stat_result) -> _State:
    return (there.st_ino, there.st_mtime_ns, there.st_size)
