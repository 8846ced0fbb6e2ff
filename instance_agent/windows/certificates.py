"""The machine's certificate stores through .NET's X509Store."""

from __future__ import annotations

import hashlib
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from instance_agent.targets.iis.gateway import GatewayError
from instance_agent.targets.iis.stores import KNOWN_STORES, NewCertificate, StoredCertificate
from instance_agent.windows.dotnet import namespace, translated

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

_INTERMEDIATES = "CA"


class DotNetStores:
    """The `CertificateStores` of the local machine.

    Args:
        exportable: Whether private keys may be exported again.
        location: `LocalMachine`; tests use `CurrentUser`.
    """

    def __init__(self, *, exportable: bool = False, location: str = "LocalMachine") -> None:
        self._x509 = namespace("System.Security.Cryptography.X509Certificates")
        self._location = getattr(self._x509.StoreLocation, location)
        flags = self._x509.X509KeyStorageFlags
        self._flags = flags.MachineKeySet | flags.PersistKeySet
        if exportable:
            self._flags |= flags.Exportable

    def listing(self) -> list[StoredCertificate]:
        """Every certificate in `My` and `WebHosting`."""
        found: list[StoredCertificate] = []
        for name in KNOWN_STORES:
            with self._open(name) as store:
                found += [
                    StoredCertificate(
                        store=name,
                        thumbprint=str(native.Thumbprint),
                        friendly_name=str(native.FriendlyName or ""),
                        has_private_key=bool(native.HasPrivateKey),
                    )
                    for native in store.Certificates
                ]
        return found

    def fingerprints(self, certificates: Iterable[StoredCertificate]) -> dict[str, str]:
        """SHA-256 of the DER, each store read once."""
        wanted: dict[str, set[str]] = {}
        for certificate in certificates:
            wanted.setdefault(certificate.store, set()).add(certificate.thumbprint)
        found: dict[str, str] = {}
        for name, thumbprints in wanted.items():
            with self._open(name) as store:
                for native in store.Certificates:
                    if str(native.Thumbprint) in thumbprints:
                        found[str(native.Thumbprint)] = hashlib.sha256(bytes(native.RawData)).hexdigest()
        return found

    def add(self, store: str, certificate: NewCertificate) -> None:
        """Import the PFX, choose the leaf by its thumbprint, and name and store it.

        Only with PersistKeySet does the key outlive the object (https://github.com/dotnet/runtime/issues/97121).
        """
        with self._open(store, write=True) as native:
            imported = self._x509.X509Certificate2Collection()
            imported.Import(certificate.pfx, certificate.password, self._flags)
            leaf = next((one for one in imported if str(one.Thumbprint) == certificate.thumbprint), None)
            if leaf is None:
                raise GatewayError(f"Windows read another certificate from the file than {certificate.thumbprint}")
            self._name(leaf, certificate.friendly_name)
            native.Add(leaf)

    def rename(self, certificate: StoredCertificate, friendly_name: str) -> None:
        """Set the friendly name in the store."""
        with self._open(certificate.store, write=True) as store:
            self._name(self._find(store, certificate.thumbprint), friendly_name)

    def key_problems(self, store: str, thumbprints: Iterable[str]) -> dict[str, str]:
        """Look each certificate up in the newly opened store and ask Windows for its private key."""
        problems: dict[str, str] = {}
        with self._open(store) as native:
            by_thumbprint = {str(one.Thumbprint): one for one in native.Certificates}
            for thumbprint in thumbprints:
                problem = self._key_problem(by_thumbprint.get(thumbprint), store)
                if problem is not None:
                    problems[thumbprint] = problem
        return problems

    def add_intermediates(self, certificates: Sequence[bytes]) -> None:
        """Put those that are missing into the store of intermediate authorities."""
        if not certificates:
            return
        with self._open(_INTERMEDIATES, write=True) as store:
            present = {str(one.Thumbprint) for one in store.Certificates}
            for der in certificates:
                native = self._x509.X509Certificate2(der)
                if str(native.Thumbprint) not in present:
                    store.Add(native)

    def remove(self, certificate: StoredCertificate) -> None:
        """Delete the certificate, then its key, which Windows would leave on the disk."""
        with self._open(certificate.store, write=True) as store:
            native = self._find(store, certificate.thumbprint)
            key = self._private_key(native) if certificate.has_private_key else None
            store.Remove(native)
            if key is not None:
                _delete_key(key)

    def _name(self, native: Any, friendly_name: str) -> None:  # noqa: ANN401 - a .NET object
        native.FriendlyName = friendly_name

    @contextmanager
    def _open(self, name: str, *, write: bool = False) -> Iterator[Any]:
        with translated():
            store = self._x509.X509Store(name, self._location)
            flags = self._x509.OpenFlags
            store.Open(flags.ReadWrite if write else flags.ReadOnly)
            try:
                yield store
            finally:
                store.Close()

    def _find(self, store: Any, thumbprint: str) -> Any:  # noqa: ANN401 - .NET objects
        found = store.Certificates.Find(self._x509.X509FindType.FindByThumbprint, thumbprint, False)
        if found.Count == 0:
            raise GatewayError(f"the certificate {thumbprint} is no longer in the store {store.Name}")
        return found[0]

    def _key_problem(self, native: Any, store: str) -> str | None:  # noqa: ANN401 - a .NET object
        if native is None:
            return f"it is not in the store {store} after the import"
        if not native.HasPrivateKey:
            return "Windows links no private key to it"
        try:
            with translated():
                return None if self._private_key(native) is not None else "its private key is of an unknown kind"
        except GatewayError as error:
            return f"its private key cannot be used: {error}"

    def _private_key(self, native: Any) -> Any:  # noqa: ANN401 - .NET objects
        key = self._x509.RSACertificateExtensions.GetRSAPrivateKey(native)
        return key if key is not None else self._x509.ECDsaCertificateExtensions.GetECDsaPrivateKey(native)


def _delete_key(key: Any) -> None:  # noqa: ANN401 - a .NET object
    """Delete the key's container: of CNG by `CngKey.Delete`, of older providers by no longer persisting it."""
    if hasattr(key, "Key"):
        key.Key.Delete()
    else:
        key.PersistKeyInCsp = False
        key.Clear()
