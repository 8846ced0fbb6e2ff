"""What is seen of the work from outside while it is done: spans and the fields of log lines."""
