"""What the Function does: its use cases, over the seams in `shared.ports`."""
