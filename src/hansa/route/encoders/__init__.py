"""Encoders: texts become vectors whose cosines say which task a query is of."""
