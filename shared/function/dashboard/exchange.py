"""A request to the dashboard and its answer, as plain values."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, urlsplit

NAME = "dashboard"
"""The first part of its addresses, behind the app's own prefix."""

_BASE = re.compile(rf"(.*?/{NAME})(?=/|\Z)", re.IGNORECASE | re.DOTALL)
_FORM = "application/x-www-form-urlencoded"
_MAX_FORM_BYTES = 16_384
"""A name has 1,024 characters at most, and each may be written with 12."""
_MAX_FIELDS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One HTTP request.

    Attributes:
        method: In upper case.
        base: Path of the dashboard itself as it was asked for, without a slash at its end, such as `/api/dashboard`.
        path: What stands behind that, without slashes at its ends; empty for the fleet page.
        query: The query's values, the function key `code` among them.
        headers: By their names in lower case.
        form: What a form sent.
    """

    method: str
    base: str
    path: str
    query: Mapping[str, str] = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)
    form: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        method: str,
        url: str,
        *,
        rest: str,
        query: Mapping[str, str],
        headers: Mapping[str, str],
        body: bytes = b"",
    ) -> Request:
        """Take a request as a Functions host hands it over.

        Args:
            method: The request's.
            url: Its address.
            rest: What the route took of the path, decoded.
            query: Decoded.
            headers: Under names of any case.
            body: What a form sent; too much of it, or of another type, counts as nothing.
        """
        named = {name.lower(): value for name, value in headers.items()}
        found = _BASE.match(urlsplit(url).path)
        return cls(
            method=method.upper(),
            base=found[1] if found else f"/api/{NAME}",
            path=rest.strip("/"),
            query=dict(query),
            headers=named,
            form=_form(named.get("content-type", ""), body),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """One HTTP answer.

    Attributes:
        status: HTTP status code.
        headers: All of them.
        body: Empty where the answer has none.
    """

    status: int
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(default=b"", repr=False)


def _form(content_type: str, body: bytes) -> dict[str, str]:
    if content_type.partition(";")[0].strip().lower() != _FORM or len(body) > _MAX_FORM_BYTES:
        return {}
    try:
        return dict(
            parse_qsl(body.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=_MAX_FIELDS)
        )
    except ValueError:
        return {}
