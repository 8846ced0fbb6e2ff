"""What the Function and the agents agree on, and the Function's whole logic."""
