"""Populations that can be audited, a file each."""
