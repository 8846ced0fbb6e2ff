"""The `iis` and `iis-ccs` targets: site bindings, or the Centralized Certificate Store."""
