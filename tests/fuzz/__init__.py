"""Coverage-guided fuzzing of what strangers write, with atheris; `python3 dev.py fuzz` runs it."""
