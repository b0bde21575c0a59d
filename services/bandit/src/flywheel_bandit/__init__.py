"""Joins facts into outcomes and learns policies from them."""
