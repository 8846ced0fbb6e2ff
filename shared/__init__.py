"""What the Function and the agents agree on, and the Function's whole logic."""

VERSION = "0.2.0.dev0"
"""certcast's, in no other place. A release's is three numbers; `.dev0` after them is on the way to it (PEP 440)."""
