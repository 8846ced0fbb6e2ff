"""Event Grid on this machine: a relay in front of the storage emulator, delivery, a topic."""
