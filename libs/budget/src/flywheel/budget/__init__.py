"""Budgets: what is declared, what a call can cost, and how a deciding process holds money."""
