"""TLS contexts made from bundles: what they offer, how the key reaches OpenSSL, which bundles share one."""

import os
import ssl
import stat
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from instance_agent.targets.base import ApplyError, Install
from instance_agent.targets.embedded.contexts import contexts_for, server_context
from instance_agent.targets.parts.fallback import self_made_fallback
from instance_agent.targets.parts.key_loading import load_through_encrypted_file, load_through_memory_file
from shared.bundle import CertificateBundle
from tests.rigs.certificates import KeyKind, authority, self_signed


def shake_hands(server: ssl.SSLContext, client: ssl.SSLContext, session: ssl.SSLSession | None = None) -> ssl.SSLObject:
    """A whole handshake in memory; returns the client's side."""
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    ours = server.wrap_bio(to_server, to_client, server_side=True)
    theirs = client.wrap_bio(to_client, to_server, server_hostname="shop.example.com", session=session)
    for side in (theirs, ours, theirs, ours, theirs):
        try:
            side.do_handshake()
        except ssl.SSLWantReadError:
            continue
    with pytest.raises(ssl.SSLWantReadError):
        theirs.read()  # takes in the session tickets, if any were sent
    return theirs


def client_context(*protocols: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if protocols:
        context.set_alpn_protocols(list(protocols))
    return context


class Watched(ssl.SSLContext):
    """A context that tells what the file it was loaded from looked like."""

    seen: dict[str, Any]

    def load_cert_chain(self, certfile: Any, *arguments: Any, **options: Any) -> None:
        path = Path(certfile)
        self.seen = {"path": path, "mode": stat.S_IMODE(path.stat().st_mode), "content": path.read_bytes()}
        super().load_cert_chain(certfile, *arguments, **options)


@pytest.mark.parametrize("kind", ["ec", "rsa"])
def test_elsewhere_the_key_is_written_encrypted_for_its_owner_alone_and_is_gone_at_once(
    kind: KeyKind, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    issued = authority().intermediate().issue("shop.example.com", key=kind)
    context = Watched(ssl.PROTOCOL_TLS_SERVER)
    load_through_encrypted_file(context, issued.bundle())
    assert context.seen["mode"] == 0o600
    assert b"ENCRYPTED PRIVATE KEY" in context.seen["content"]
    assert issued.bundle().key_pem() not in context.seen["content"]
    assert list(tmp_path.iterdir()) == []
    presented = shake_hands(context, client_context()).getpeercert(binary_form=True)
    assert presented == issued.certificate.public_bytes(Encoding.DER)


def test_the_encrypted_file_is_gone_when_the_bundle_is_refused_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with pytest.raises(ssl.SSLError):
        load_through_encrypted_file(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), unfit())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="memory files are Linux's")
def test_on_linux_the_key_is_never_in_a_folder_and_no_descriptor_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    before = open_descriptors()
    issued = self_signed("shop.example.com")
    context = Watched(ssl.PROTOCOL_TLS_SERVER)
    load_through_memory_file(context, issued.bundle())
    with pytest.raises(ssl.SSLError):
        load_through_memory_file(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), unfit())
    assert context.seen["path"].parent == Path("/proc/self/fd")
    assert open_descriptors() == before
    assert list(tmp_path.iterdir()) == []
    assert shake_hands(context, client_context()).version() == "TLSv1.3"


def test_only_http_1_1_is_offered() -> None:
    context = server_context(self_signed("shop.example.com").bundle())
    assert shake_hands(context, client_context("h2", "http/1.1")).selected_alpn_protocol() == "http/1.1"
    assert shake_hands(context, client_context("h2")).selected_alpn_protocol() is None


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_client_that_comes_back_gets_a_full_handshake_and_so_todays_certificate(version: ssl.TLSVersion) -> None:
    old, new = self_signed("shop.example.com"), self_signed("shop.example.com")
    listener = server_context(self_made_fallback(datetime.now(UTC)))
    now = {"served": server_context(old.bundle())}
    listener.sni_callback = lambda connection, *_: setattr(connection, "context", now["served"])
    client = client_context()
    client.maximum_version = version
    first = shake_hands(listener, client)
    assert first.session is None or not first.session.has_ticket
    now["served"] = server_context(new.bundle())
    second = shake_hands(listener, client, session=first.session)
    assert not second.session_reused
    assert second.getpeercert(binary_form=True) == new.certificate.public_bytes(Encoding.DER)


def test_a_key_that_does_not_fit_or_is_too_weak_is_refused_when_the_context_is_built() -> None:
    with pytest.raises(ssl.SSLError, match=r"(?i)key values mismatch"):
        server_context(unfit())
    with pytest.raises(ssl.SSLError, match=r"(?i)key too small"):
        server_context(self_signed("shop.example.com", key="rsa1024").bundle())


def test_the_self_made_fallback_is_valid_now_and_names_no_host() -> None:
    now = datetime.now(UTC)
    fallback = self_made_fallback(now)
    assert fallback.not_before < now < fallback.not_after
    assert all(name.endswith(".invalid") for name in fallback.dns_names)
    assert self_made_fallback(now).fingerprint_sha256 != fallback.fingerprint_sha256


def test_hosts_that_share_a_bundle_share_its_context() -> None:
    bundle, other = (self_signed("shop.example.com").bundle() for _ in range(2))
    installs = [
        Install(host=host, port=443, bundle_id="", bundle=each)
        for host, each in (("a.example", bundle), ("b.example", bundle), ("c.example", other))
    ]
    a, b, c = contexts_for(installs).values()
    assert a is b
    assert c is not a


def test_the_same_certificate_with_a_strangers_key_is_refused_beside_the_right_one() -> None:
    issued, other = self_signed("shop.example.com"), self_signed("shop.example.com")
    strange = CertificateBundle(leaf=issued.certificate, chain=(), key=other.key)
    good = Install(host="a.example", port=443, bundle_id="", bundle=issued.bundle())
    bad = Install(host="b.example", port=443, bundle_id="", bundle=strange)
    with pytest.raises(ApplyError, match=r"b\.example:443 cannot be served: key values mismatch") as caught:
        contexts_for([good, bad])
    assert caught.value.culprit == bad.key


def open_descriptors() -> set[str]:
    return {entry.name for entry in Path("/proc/self/fd").iterdir()}


def unfit() -> CertificateBundle:
    """A certificate with another's key."""
    issued, other = self_signed("shop.example.com"), self_signed("shop.example.com")
    return CertificateBundle(leaf=issued.certificate, chain=(), key=other.key)
