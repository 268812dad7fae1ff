"""Plugin: pytest's side. Hooks, items and the terminal.

Must not decide anything: it translates between pytest and `judging`.
"""
