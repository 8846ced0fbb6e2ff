"""The whole cloud on one machine, for development and tests: storage, Event Grid, the Functions host, agents."""
