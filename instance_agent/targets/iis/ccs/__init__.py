"""The `iis-ccs` target: files in IIS's Centralized Certificate Store, and the one binding that reads them."""
