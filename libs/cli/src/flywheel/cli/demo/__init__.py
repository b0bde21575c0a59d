"""The demo: a recorded experiment through the whole system."""
