"""What dev.py does: the environment, the checks, the lock files; standard library only, never deployed."""
