"""Routing: many adapters on one model; each query gets the mixture that answers it (LORAUTER)."""
