"""Candidate: the untrusted process. Its entry point, `Run`, the batches and the flop counter.

Must not know the referee: both sides share `core` and nothing else.
"""
