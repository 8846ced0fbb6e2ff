"""What an uploaded file is, if it is no PFX, and what makes a PFX of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shared.validation.recognising.damage import behind, damage_of
from shared.validation.recognising.der import der_of
from shared.validation.recognising.guise import Guise
from shared.validation.recognising.magic import binary_of, text_format_of
from shared.validation.recognising.pem import pem_of
from shared.validation.recognising.texts import decoded_of, is_json, pfx_in_text, text_of

if TYPE_CHECKING:
    from shared.pkcs12.asn1 import Asn1Error

__all__ = ["Guise", "pfx_in_text", "recognise"]

_MAX_LAYERS = 3
"""Of text around what is recognised: base64 in UTF-16, in JSON."""


def recognise(content: bytes, problem: Asn1Error) -> Guise:
    """Say what a file is that is no PFX, in time that grows with its length alone.

    Nothing of it is quoted: a file that is none may hold anything, a private key or a password too.

    Args:
        content: Untrusted.
        problem: Why it is no PFX.
    """
    return _known(content, _MAX_LAYERS) or Guise(what=str(problem))


def _known(content: bytes, layers: int) -> Guise | None:
    found = damage_of(content) or binary_of(content) or der_of(content) or behind(content)
    text = text_of(content) if found is None and layers else None
    if text is None:
        return found
    found = (
        (_encoded(text.value, layers) if is_json(text.value) else pem_of(text.value))
        or _encoded(text.value, layers)
        or text_format_of(text.value)
        or Guise(what="it is text, and neither PEM nor base64 of a PFX")
    )
    if not text.encoding:
        return found
    return found.inside(
        f"it is text in {text.encoding}", f"Make UTF-8 of it: `iconv -f {text.encoding} -t UTF-8 FILE > decoded`."
    )


def _encoded(text: str, layers: int) -> Guise | None:
    inner = decoded_of(text)
    found = None if inner is None else _known(inner.content, layers - 1)
    return None if inner is None or found is None else found.inside(f"it is {inner.way}", inner.cure)
