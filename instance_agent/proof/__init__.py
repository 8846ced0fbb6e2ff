"""Proof that goes on after the installation: looks at what is bound, and what something else changed."""
