"""The refusals of Azure Storage that Azurite does not give, as they are documented or were seen, each with a source."""

from __future__ import annotations

from dataclasses import replace
from http import HTTPStatus

from aiohttp import hdrs

from local_azure.proxy.answers import Refusal

_DOCS = "https://learn.microsoft.com/rest/api/storageservices"
_SDK = "https://github.com/Azure/azure-sdk-for-python/blob/main/sdk"
_COMMON = f"{_DOCS}/common-rest-api-error-codes"
_BLOB = f"{_DOCS}/blob-service-error-codes"
_INDEX = "https://learn.microsoft.com/azure/storage/blobs/storage-manage-find-blobs"
_TABLE = f"{_DOCS}/table-service-error-codes"
_READS = frozenset({"Get Blob", "Get Blob Properties", "List Blobs", "Get Blob Tags"})
_TAGS = frozenset({"Set Blob Tags", "Get Blob Tags"})
_WRITES = frozenset({"Put Blob", "Put Block List", "Set Blob Metadata", "Delete Blob"})
_ROW_WRITES = frozenset(
    {"Insert Entity", "Update Entity", "Insert Or Replace Entity", "Merge Entity", "Insert Or Merge Entity"}
)

PERMISSION_MISMATCH = Refusal(
    code="AuthorizationPermissionMismatch",
    status=HTTPStatus.FORBIDDEN,
    message="This request is not authorized to perform this operation using this permission.",
    source="https://github.com/Azure/kusto-copy/issues/79",
)
NETWORK_RULES = Refusal(
    code="AuthorizationFailure",
    status=HTTPStatus.FORBIDDEN,
    message="This request is not authorized to perform this operation.",
    source="https://github.com/microsoft/AzureStorageExplorer/issues/8869",
)
NO_SHARED_KEYS = Refusal(
    code="KeyBasedAuthenticationNotPermitted",
    status=HTTPStatus.FORBIDDEN,
    message="Key based authentication is not permitted on this storage account.",
    source="https://github.com/Azure/AI-Landing-Zones/issues/64",
)
ACCOUNT_DISABLED = Refusal(
    code="AccountIsDisabled",
    status=HTTPStatus.FORBIDDEN,
    message="The specified account is disabled.",
    source=_COMMON,
)
SERVER_BUSY = Refusal(
    code="ServerBusy",
    status=HTTPStatus.SERVICE_UNAVAILABLE,
    message="Operations per second is over the account limit.",
    headers=((hdrs.RETRY_AFTER, "1"),),
    source=_COMMON,
)
TIMED_OUT = Refusal(
    code="OperationTimedOut",
    status=HTTPStatus.INTERNAL_SERVER_ERROR,
    message="The operation could not be completed within the permitted time.",
    source=_COMMON,
)
TAGS_NOT_PERMITTED = replace(
    PERMISSION_MISMATCH, services=("blob",), operations=_TAGS, source=f"{_DOCS}/set-blob-tags#authorization"
)
TAGS_NO_SUCH_PARAMETER = Refusal(
    code="InvalidQueryParameterValue",
    status=HTTPStatus.BAD_REQUEST,
    message="Value for one of the query parameters specified in the request URI is invalid.",
    services=("blob",),
    operations=_TAGS,
    details=(("QueryParameterName", "comp"), ("QueryParameterValue", "tags")),
    source="https://github.com/Azure/azure-sdk-for-net/issues/39388",
)
TAGS_HIERARCHICAL = Refusal(
    code="FeatureNotYetSupportedForHierarchicalNamespaceAccounts",
    status=HTTPStatus.CONFLICT,
    message="Specified feature is not yet supported for hierarchical namespace accounts.",
    services=("blob",),
    operations=_TAGS,
    source="https://github.com/Azure/azure-storage-node/issues/632",
)
TAGS_OLD_ACCOUNT = Refusal(
    code="BlobTagsNotSupportedForAccountType",
    status=HTTPStatus.BAD_REQUEST,
    message="Blob tags are only supported on General Purpose v2 storage accounts.",
    services=("blob",),
    operations=_TAGS,
    source="https://github.com/JDetmar/NLog.Extensions.AzureStorage/issues/87",
)
TAGS_NOT_ENABLED = Refusal(
    code="FeatureNotEnabled",
    status=HTTPStatus.BAD_REQUEST,
    message="A required feature for this operation is not enabled on the account.",
    services=("blob",),
    operations=_TAGS,
    details=(("FeatureName", "BlobIndex"),),
    source="https://github.com/microsoft/AzureStorageExplorer/issues/3599",
)
TAGS_CHANGED = Refusal(
    code="ConditionNotMet",
    status=HTTPStatus.PRECONDITION_FAILED,
    message="The condition specified using HTTP conditional header(s) is not met.",
    services=("blob",),
    operations=frozenset({"Set Blob Tags"}),
    source=f"{_INDEX}#conditional-blob-operations-with-blob-index-tags",
)
LEASED = Refusal(
    code="LeaseIdMissing",
    status=HTTPStatus.PRECONDITION_FAILED,
    message="There is currently a lease on the blob and no lease ID was specified in the request.",
    services=("blob",),
    operations=_WRITES | {"Set Blob Tags"},
    source=_BLOB,
)
IMMUTABLE = Refusal(
    code="BlobImmutableDueToPolicy",
    status=HTTPStatus.CONFLICT,
    message="This operation is not permitted as the blob is immutable due to a policy.",
    services=("blob",),
    operations=_WRITES,
    source=_BLOB,
)
ARCHIVED = Refusal(
    code="BlobArchived",
    status=HTTPStatus.CONFLICT,
    message="This operation is not permitted on an archived blob.",
    services=("blob",),
    operations=frozenset({"Get Blob", "Set Blob Metadata"}),
    source=_BLOB,
)
OWN_KEY = Refusal(
    code="BlobUsesCustomerSpecifiedEncryption",
    status=HTTPStatus.CONFLICT,
    message="The blob is encrypted with customer specified encryption, but it was not provided in the request.",
    services=("blob",),
    operations=frozenset({"Get Blob", "Get Blob Properties", "Set Blob Metadata"}),
    source="https://learn.microsoft.com/azure/storage/blobs/encryption-customer-provided-keys",
)
NO_CONTAINER = Refusal(
    code="ContainerNotFound",
    status=HTTPStatus.NOT_FOUND,
    message="The specified container does not exist.",
    services=("blob",),
    operations=_READS | _WRITES | {"Set Blob Tags"},
    source=_BLOB,
)
QUEUE_BEING_DELETED = Refusal(
    code="QueueBeingDeleted",
    status=HTTPStatus.CONFLICT,
    message="The specified queue is being deleted.",
    services=("queue",),
    source=f"{_SDK}/storage/azure-storage-queue/azure/storage/queue/_queue_client.py",
)
TABLE_BEING_DELETED = Refusal(
    code="TableBeingDeleted",
    status=HTTPStatus.CONFLICT,
    message="The specified table is being deleted. Try operation later.",
    services=("table",),
    source=f"{_DOCS}/delete-table#remarks",
)
CONTAINER_BEING_DELETED = Refusal(
    code="ContainerBeingDeleted",
    status=HTTPStatus.CONFLICT,
    message="The specified container is being deleted. Try operation later.",
    services=("blob",),
    operations=frozenset({"Create Container"}),
    source=f"{_DOCS}/delete-container#remarks",
)
METADATA_TOO_LARGE = Refusal(
    code="MetadataTooLarge",
    status=HTTPStatus.BAD_REQUEST,
    message="The metadata specified exceeds the maximum allowed limit (8KB).",
    services=("blob",),
    operations=frozenset({"Put Blob", "Put Block List", "Set Blob Metadata"}),
    source=_COMMON,
)
ENTITY_TOO_LARGE = Refusal(
    code="EntityTooLarge",
    status=HTTPStatus.BAD_REQUEST,
    message="The entity is larger than the maximum size permitted.",
    services=("table",),
    operations=_ROW_WRITES,
    source=_TABLE,
)
TOO_MANY_PROPERTIES = Refusal(
    code="TooManyProperties",
    status=HTTPStatus.BAD_REQUEST,
    message="The entity contains more properties than allowed.",
    services=("table",),
    operations=_ROW_WRITES,
    source=_TABLE,
)

REFUSALS = (
    PERMISSION_MISMATCH,
    NETWORK_RULES,
    NO_SHARED_KEYS,
    ACCOUNT_DISABLED,
    SERVER_BUSY,
    TIMED_OUT,
    TAGS_NOT_PERMITTED,
    TAGS_NO_SUCH_PARAMETER,
    TAGS_HIERARCHICAL,
    TAGS_OLD_ACCOUNT,
    TAGS_NOT_ENABLED,
    TAGS_CHANGED,
    LEASED,
    IMMUTABLE,
    ARCHIVED,
    OWN_KEY,
    NO_CONTAINER,
    QUEUE_BEING_DELETED,
    TABLE_BEING_DELETED,
    CONTAINER_BEING_DELETED,
    METADATA_TOO_LARGE,
    ENTITY_TOO_LARGE,
    TOO_MANY_PROPERTIES,
)
"""All of them."""
