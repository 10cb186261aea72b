"""Recommending without a server: raw ratings or models, passed on between neighbours (REX)."""
