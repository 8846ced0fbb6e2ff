"""Attacks, each as a test: what one uploader, instance or neighbour writes, and what it must not do to the others."""
