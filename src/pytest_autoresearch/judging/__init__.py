"""Judging: which seeds to train, what the scores say, the ledger, the baseline and its promotion.

Must not know pytest, nor how a run is done: it gives an executor plain values and gets a result.
"""
