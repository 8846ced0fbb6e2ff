"""The `caddy` target: Caddy asks the agent for certificates."""
