"""What a release consists of: each module builds one of its files, from the same commit to the same bytes."""
