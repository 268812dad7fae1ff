"""pytest hooks of autoresearch."""
