"""The storage account, its keys and its event topic through the Azure SDKs, and webhooks."""
