"""Text to rows of tokens: sources, hub, corpus (documents), tokenizer, packing (rows), prepare (cached on disk).

The same corpus and settings give the same rows, byte for byte, on every machine. No text is both in the training rows
and in the held-out rows. The room must not know pytest, verdicts, budgets or programs: it imports only `core`.
"""
