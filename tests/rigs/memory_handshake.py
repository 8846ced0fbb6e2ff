"""A TLS handshake without a network: whether OpenSSL can serve a bundle, and believes its chain."""

import ssl

from instance_agent.targets.parts.key_loading import load_bundle
from shared.bundle import CertificateBundle

_ROUNDS = 10


def handshake(
    bundle: CertificateBundle,
    host: str,
    *,
    root: bytes | None = None,
    version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3,
) -> bytes:
    """Serve a bundle to a client.

    Args:
        bundle: What is served.
        host: What the client asks for.
        root: DER of the root that it trusts, and then looks at names, dates and chain; None believes anything.
        version: The only one of TLS that is spoken.

    Returns:
        DER of the leaf as the client got it.

    Raises:
        ssl.SSLError: The server cannot load it, or the client refuses it.
    """
    served = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    load_bundle(served, bundle)
    asking = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if root is None:
        asking.check_hostname = False
        asking.verify_mode = ssl.CERT_NONE
    else:
        asking.load_verify_locations(cadata=root)
    served.minimum_version = served.maximum_version = version
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = asking.wrap_bio(back, there, server_hostname=host)
    server = served.wrap_bio(there, back, server_side=True)
    waiting = [client, server]
    for _ in range(_ROUNDS):
        for side in list(waiting):
            try:
                side.do_handshake()
                waiting.remove(side)
            except ssl.SSLWantReadError:
                pass
    assert not waiting
    leaf = client.getpeercert(binary_form=True)
    assert leaf is not None
    return leaf
