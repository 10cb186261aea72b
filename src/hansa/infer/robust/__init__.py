"""Robust federated inference: many models answer a query, some lie, and one answer is made."""
