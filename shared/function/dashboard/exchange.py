"""A request to the dashboard and its answer, as plain values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


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
