"""Certificates that are not blobs: Key Vault, a SQL table, a folder."""
