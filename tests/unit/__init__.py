"""Rules and decisions: no process, no network."""
