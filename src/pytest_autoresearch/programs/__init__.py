"""Programs: experiments and overlays, text in and text out.

Must not run the programs that it reads, and must not know torch, processes or verdicts.
"""
