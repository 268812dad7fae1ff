"""Text to rows of tokens: corpus (documents), tokenizer (rustbpe, tiktoken), packing (rows), prepare (cache)."""
