"""The loop: asks agents for experiments, checks what they bring, and has pytest judge it, until a limit is reached.

Must not know pytest, which it starts as a process, and must not judge: verdicts come from the ledger and the evidence.
"""
