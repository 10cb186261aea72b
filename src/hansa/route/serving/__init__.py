"""A pool of adapters behind an OpenAI-like interface: routed, pinned or mixed, row by row."""
