"""Core: what all rooms share. Errors, tracks, budgets, records of runs, the messages of the protocol, files.

Must not know any other room. Imports torch only inside functions, or in modules that only a run imports.
"""
