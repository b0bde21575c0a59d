"""The gateway: decides, calls the provider, and tells what was called."""
