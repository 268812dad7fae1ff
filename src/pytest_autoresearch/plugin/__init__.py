"""Plugin: pytest's side. Hooks, items and the terminal.

Must not decide anything: it only translates between pytest and `judging`.
"""
