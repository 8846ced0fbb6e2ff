"""The Functions host on this machine, with the rules of the real one."""
