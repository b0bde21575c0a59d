"""Generated from ``services/router/proto``; never edited."""
