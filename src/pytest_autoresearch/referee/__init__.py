"""Referee: the trusted side of a run. It starts the candidate, holds the clock and the held-out text, and scores.

Must not know the candidate's code, nor what scores are used for.
"""
