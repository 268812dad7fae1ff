"""Research: what has been tried, and what to try next. Sweeps, the memory of a track, suggestions.

Must not know pytest, nor how a verdict comes about: it reads the ledger and has programs judged by `judging`.
"""
