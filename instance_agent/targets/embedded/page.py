"""The page that names host and certificate fingerprint."""

from __future__ import annotations

import html

from instance_agent.targets.parts.small_http import Response

_PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>{title}</title>
<h1>{title}</h1>
<p>Served by certcast with the certificate whose SHA-256 fingerprint is<br><code>{fingerprint}</code></p>
</html>
"""
_FIELDS = (("Content-Security-Policy", "default-src 'none'"),)


def page(host: str, fingerprint_sha256: str) -> Response:
    """What one connection is answered, whatever path is asked for.

    Args:
        host: The name that the client asked for, escaped here, or what answers in its place; empty for the fallback.
        fingerprint_sha256: Of the certificate it was served.
    """
    title = html.escape(host) or "No certificate is bound for this name"
    body = _PAGE.format(title=title, fingerprint=fingerprint_sha256).encode()
    return Response(body=body, kind="text/html; charset=utf-8", fields=_FIELDS)
