"""Core: what all rooms share. Errors, tracks, budgets, records of runs, the messages of the protocol, files.

Must not know any other room, and imports torch only inside functions, or in modules that just a run imports.
"""
