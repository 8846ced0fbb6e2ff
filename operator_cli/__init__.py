"""The `certcast` command: what a person types to upload, check, watch and remove certificates."""
