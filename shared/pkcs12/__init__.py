"""PKCS#12 files from untrusted senders, opened layer by layer with the cost of each known first."""
