"""What README.md and the pages in docs/ tell people to run, run."""
