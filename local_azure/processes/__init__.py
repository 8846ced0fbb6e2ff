"""Child processes: started, watched, stopped with their parent."""
