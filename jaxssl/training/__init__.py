"""A training run: its step, its loop, and the files it leaves."""
