"""What the error codes of Azure's services mean where their HTTP status does not tell, and what helps.

The codes are those of learn.microsoft.com, "Common REST API error codes", "Blob Storage error codes", "Queue Storage
error codes", "Table Storage error codes", "Common error codes for Azure Key Vault", and of a
vault's "innererror" as its refusals are quoted in Azure/azure-sdk-for-js issue 24756 and MicrosoftDocs' "Diagnose
private links configuration issues".
"""

from __future__ import annotations

from shared.errors import (
    AccessDeniedError,
    CertcastError,
    HeldError,
    MissingError,
    NotSetUpError,
    QueueBeingDeletedError,
    RefusedForNowError,
    UnavailableError,
    UnsupportedError,
)

Meaning = tuple[type[CertcastError], str]
"""The error that a code is, and what it says after `doing something: `; `{code}` stands for the code."""

_ROLES = (
    "refused ({code}); a role assignment takes up to half an hour to come into force; if it stays so, see the role "
    "assignments in docs/deploy.md"
)
_NETWORK = (
    "refused ({code}); the account's network rules do not let this address in, or the key or identity is not one that "
    "may; a change of either takes minutes to come into force; if it stays so, see the network rules and the role "
    "assignments in docs/deploy.md"
)
_VAULT_NETWORK = (
    "refused ({code}); the vault's network rules do not let this address in; a change of them takes minutes to come "
    "into force; if it stays so, see them in the vault's networking settings"
)
_NO_KEYS = (
    "refused ({code}); the account takes no access keys: set CERTCAST_STORAGE__accountName in place of "
    "CERTCAST_STORAGE, to come with an identity"
)
_NOT_PROVED = (
    "refused ({code}); the key, signature or token is not this account's or no longer valid, or this machine's clock "
    "is wrong"
)
_NO_FEATURE = "this storage account has no such feature ({code})"
_LEASED = "the blob is under a lease ({code}); end the lease (az storage blob lease break)"
_DELETED = "one of that name was deleted a moment ago, and can be made again when the service is done with that, after"
_NO_PLACE = "itself is not there ({code}): create it (docs/deploy.md), or check the name of the storage account"

MEANINGS: dict[str, Meaning] = {
    # One thing is not there: storage, of which tables say ResourceNotFound of a row; then Key Vault.
    **dict.fromkeys(
        (
            *("BlobNotFound", "MessageNotFound", "QueueNotFound", "ResourceNotFound", "EntityNotFound"),
            *("SecretNotFound", "KeyNotFound", "CertificateNotFound"),
        ),
        (MissingError, "not there ({code})"),
    ),
    # What holds it is not there, which says nothing about the thing.
    "ContainerNotFound": (NotSetUpError, f"the container {_NO_PLACE}"),
    "TableNotFound": (NotSetUpError, f"the table {_NO_PLACE}"),
    # learn.microsoft.com, "Delete Queue", "Delete Container" and "Delete Table" of the REST API, remarks.
    "QueueBeingDeleted": (QueueBeingDeletedError, f"{_DELETED} 40 s or more ({{code}})"),
    "ContainerBeingDeleted": (UnavailableError, f"{_DELETED} half a minute or more ({{code}})"),
    "TableBeingDeleted": (UnavailableError, f"{_DELETED} 40 s or more ({{code}})"),
    # Refused, which may pass by itself.
    "AuthorizationPermissionMismatch": (RefusedForNowError, _ROLES),
    "Forbidden": (RefusedForNowError, _ROLES),
    "ForbiddenByRbac": (RefusedForNowError, _ROLES),
    "ForbiddenByFirewall": (RefusedForNowError, _VAULT_NETWORK),
    "AuthorizationFailure": (RefusedForNowError, _NETWORK),
    # Refused until something is changed.
    "KeyBasedAuthenticationNotPermitted": (AccessDeniedError, _NO_KEYS),
    "AuthenticationFailed": (AccessDeniedError, _NOT_PROVED),
    "SecretDisabled": (AccessDeniedError, "refused ({code}); enable that version of the secret, or make another"),
    "KeyDisabled": (AccessDeniedError, "refused ({code}); that version of the key is disabled"),
    "InsufficientAccountPermissions": (AccessDeniedError, "refused ({code}); the account itself does not allow this"),
    "AccountIsDisabled": (AccessDeniedError, "refused ({code}); mostly it is because the subscription is disabled too"),
    "MetadataTooLarge": (CertcastError, "metadata may have 8 KB, names and values together ({code})"),
    "InvalidMetadata": (
        CertcastError,
        "metadata has names of ASCII letters, digits and _ ({code})",
    ),
    # Not possible here.
    **dict.fromkeys(
        (
            "FeatureNotYetSupportedForHierarchicalNamespaceAccounts",
            "BlobTagsNotSupportedForAccountType",
            "FeatureNotEnabled",
        ),
        (UnsupportedError, _NO_FEATURE),
    ),
    # Not possible with this blob as it is held.
    "BlobImmutableDueToPolicy": (
        HeldError,
        "an immutability policy or a legal hold keeps the blob as it is ({code}); keep such off this container",
    ),
    "BlobArchived": (HeldError, "the blob is in the archive tier ({code}); upload it again into tier Hot or Cool"),
    # learn.microsoft.com, "Provide an encryption key on a request to Blob storage".
    "BlobUsesCustomerSpecifiedEncryption": (
        HeldError,
        "the blob is encrypted with a key that its uploader has and certcast has not ({code}); upload it without one",
    ),
    "BlobBeingRehydrated": (
        HeldError,
        "the blob is on its way out of the archive tier, which takes hours ({code}); upload it again",
    ),
    **dict.fromkeys(
        (
            *("LeaseIdMissing", "LeaseIdMismatchWithBlobOperation", "LeaseIdMismatchWithContainerOperation"),
            *("LeaseAlreadyPresent", "LeaseLost"),
        ),
        (HeldError, _LEASED),
    ),
}
