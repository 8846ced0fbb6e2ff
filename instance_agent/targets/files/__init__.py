"""The `files` target: PEM files, templates and commands for any other server."""
