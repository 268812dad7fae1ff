"""Programs: experiments and overlays, text in and text out.

Must not run what it reads, and must not know torch, processes or verdicts.
"""
