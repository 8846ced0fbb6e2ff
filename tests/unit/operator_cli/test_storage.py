"""What a person at a command line is told besides, where the storage account does not do what it is asked."""

from base64 import b64encode

import pytest
from azure.core.exceptions import AzureError, HttpResponseError, ServiceRequestError

from operator_cli.storage import opened_account
from shared.azure.errors import translated
from shared.config import StorageAccess
from shared.errors import CertcastError

STRING = StorageAccess(connection_string=f"AccountName=shop;AccountKey={b64encode(b'key').decode()};")


def answered(status: int, code: str) -> AzureError:
    error = HttpResponseError("the service's own words")
    error.status_code, error.error_code = status, code  # type: ignore[attr-defined]
    return error


@pytest.mark.parametrize(
    ("error", "ends"),
    [
        (ServiceRequestError("no route"), "(ServiceRequestError); check the account's name and the network"),
        (answered(503, "ServerBusy"), "reading table uploads: the service answered 503"),
        (answered(409, "TableBeingDeleted"), "after 40 s or more (TableBeingDeleted)"),
        (answered(404, "TableNotFound"), "; is this the account that certcast is deployed to (docs/deploy.md)?"),
        (
            answered(403, "KeyBasedAuthenticationNotPermitted"),
            "to come with an identity; is the connection string of this account, valid still, and does it allow this?",
        ),
    ],
    ids=lambda each: getattr(each, "error_code", None),
)
async def test_a_person_is_told_of_nothing_that_an_answer_shows_to_be_otherwise(error: AzureError, ends: str) -> None:
    with pytest.raises(CertcastError) as caught:
        async with opened_account(STRING):
            raise translated(error, "reading table uploads")
    assert str(caught.value).endswith(ends)
