"""Hours of training with everything that can go wrong in them: `python -m tests.soak --help`."""
