"""Judging: which seeds to train, what the scores say, the ledger, the baseline and its promotion.

Must not know pytest, and not how a run is done: it hands an executor plain values and gets a result.
"""
