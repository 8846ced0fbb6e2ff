"""One part of certcast against real servers on loopback."""
