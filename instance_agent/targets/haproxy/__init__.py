"""The `haproxy` target: HAProxy through its runtime API."""
