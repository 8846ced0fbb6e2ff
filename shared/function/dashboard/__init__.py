"""The dashboard: pages that say whether every tenant is served, and why not."""
