"""Every reason why a certificate cannot be served as asked."""
