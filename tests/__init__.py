"""The tests: unit (no process, no network), integration (real servers on loopback), acceptance (the whole)."""
