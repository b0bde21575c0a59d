"""Routing between models: metrics, learned routers, and the bench that compares them."""
