"""Real web servers beside local agents: each with a configuration of its own on loopback ports, ended with certcast."""
