"""Experiments as tests: pytest trains a candidate under a fixed budget and passes only what beats the baseline."""


class BadInput(Exception):
    """Something a user wrote cannot be used: one line that names the file, what was found and what is allowed."""
