"""What the tables and the blob tags say: rows, their keys, the status document."""
