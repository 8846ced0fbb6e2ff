"""Whether a webhook's request is signed, as Standard Webhooks says, written without the code that signs."""

import hashlib
import hmac
from base64 import b64decode, b64encode
from collections.abc import Mapping


def is_signed(headers: Mapping[str, str], body: bytes, secret: str) -> bool:
    """Whether one of the signatures is by this secret.

    Args:
        headers: The request's, with names in small letters.
        body: Its body as it came.
        secret: With its `whsec_`.
    """
    key = b64decode(secret.removeprefix("whsec_"))
    content = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    expected = b64encode(hmac.new(key, content, hashlib.sha256).digest()).decode()
    return f"v1,{expected}" in headers["webhook-signature"].split(" ")
