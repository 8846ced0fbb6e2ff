"""Parts of tests."""
