"""Coverage-guided fuzzing, with atheris: `python3 dev.py fuzz`."""
