"""Decides which arm serves a request, over HTTP and gRPC."""
