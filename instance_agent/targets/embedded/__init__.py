"""The `embedded` target: a TLS listener inside the agent."""
