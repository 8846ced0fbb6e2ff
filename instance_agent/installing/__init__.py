"""Installing a batch of bindings on a target and proving each by handshake."""
