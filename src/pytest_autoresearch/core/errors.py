"""The one error that users see: something that they wrote cannot be used."""


class UsageError(Exception):
    """Something a user wrote cannot be used: one line that names the file, what was found and what is allowed."""
