"""The forms of what Azure Storage answers and Azurite does not: refusals, lost answers, slow answers.

`refusals.py` has the refusals. Their form is that of learn.microsoft.com, "Status and error codes": XML of the blob and
the queue service, JSON of the table service, and the code in a header too.
"""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal
from xml.sax.saxutils import escape

from aiohttp import hdrs, web

from local_azure.proxy.operations import Asked, Service

ERROR_CODE = "x-ms-error-code"

_SDK = "https://github.com/Azure/azure-sdk-for-python/blob/main/sdk"


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """An answer in the service's place; nothing is done.

    Attributes:
        code: The error code.
        status: HTTP status.
        message: The sentence in its body, which is the status line's reason too.
        services: The services that give it.
        operations: The operations that it is given to; empty for any.
        headers: What stands in its headers besides.
        details: Elements that stand beside code and message.
        source: Where it is documented, or was seen.
    """

    code: str
    status: int
    message: str
    services: tuple[Service, ...] = ("blob", "queue", "table")
    operations: frozenset[str] = frozenset()
    headers: tuple[tuple[str, str], ...] = ()
    details: tuple[tuple[str, str], ...] = ()
    source: str

    @property
    def name(self) -> str:
        """What it is called where it is counted."""
        return self.code

    def fits(self, asked: Asked) -> bool:
        """Whether Azure could give it to this request."""
        return asked.service in self.services and (not self.operations or asked.request.operation in self.operations)

    def response(self, asked: Asked) -> web.Response:
        """The answer to a request."""
        request_id, now = str(uuid.uuid4()), datetime.now(UTC).isoformat(timespec="microseconds")[:-6]
        text = f"{self.message}\nRequestId:{request_id}\nTime:{now}0Z"
        headers = {
            ERROR_CODE: self.code,
            "x-ms-request-id": request_id,
            "x-ms-version": asked.headers.get("x-ms-version", ""),
            hdrs.SERVER: f"Windows-Azure-{asked.service.capitalize()}/1.0 Microsoft-HTTPAPI/2.0",
            **dict(self.headers),
        }
        if asked.head:
            return web.Response(status=self.status, reason=self.message, headers=headers)
        if asked.service == "table":
            kind = "application/json;odata=minimalmetadata;streaming=true;charset=utf-8"
            body = json.dumps({"odata.error": {"code": self.code, "message": {"lang": "en-US", "value": text}}})
        else:
            kind = "application/xml"
            details = "".join(f"<{name}>{escape(value)}</{name}>" for name, value in self.details)
            # The mark at the beginning is the service's too (https://github.com/Azure/azure-sdk-for-go/issues/22139).
            body = (
                '\ufeff<?xml version="1.0" encoding="utf-8"?>'
                f"<Error><Code>{self.code}</Code><Message>{escape(text)}</Message>{details}</Error>"
            )
        headers[hdrs.CONTENT_TYPE] = kind
        return web.Response(status=self.status, reason=self.message, headers=headers, body=body.encode())


@dataclass(frozen=True, slots=True, kw_only=True)
class Lost:
    """The request is carried out, and then the connection is cut before any of the answer is sent."""

    name: Literal["answer lost"] = "answer lost"
    source: str = f"{_SDK}/core/azure-core/azure/core/pipeline/policies/_retry.py"

    def fits(self, asked: Asked) -> bool:  # noqa: ARG002 - any answer can be lost
        """Whether this can happen to a request."""
        return True


@dataclass(frozen=True, slots=True, kw_only=True)
class Slow:
    """The request is carried out, and answered, some time later.

    Attributes:
        delay_s: How much later.
    """

    delay_s: float
    name: Literal["slow"] = "slow"
    source: str = "https://learn.microsoft.com/azure/storage/blobs/storage-blobs-latency"

    def fits(self, asked: Asked) -> bool:  # noqa: ARG002 - any answer can be slow
        """Whether this can happen to a request."""
        return True


Answer = Refusal | Lost | Slow

LOST = Lost()
