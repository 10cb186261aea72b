"""Asking models that are there: robustly, where some who answer may lie."""
