"""The dashboard as pure rendering."""
