"""PKCS#12 files that nobody vouches for, opened layer by layer with the cost of each known first."""
