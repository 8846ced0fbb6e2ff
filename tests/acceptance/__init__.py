"""The whole system, as people and the cloud run it."""
