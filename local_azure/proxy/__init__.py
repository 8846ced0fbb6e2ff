"""What stands before a storage service: requests go on as they came; on the way they are known, counted, answered."""
