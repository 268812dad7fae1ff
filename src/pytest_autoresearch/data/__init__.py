"""Text to rows of tokens: sources, hub, corpus (documents), tokenizer, packing (rows), prepare (cached on disk).

The same corpus and settings give the same rows, byte for byte, on every machine. Each piece of text is on one side of
the split, training or held-out. The room must not know pytest, verdicts, budgets or programs: it imports only `core`.
"""
