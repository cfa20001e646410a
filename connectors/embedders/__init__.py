"""Embedding providers by name; each factory takes plain arguments and returns a `ports.Embedder`."""
