"""LORAUTER and what it is held against; each method is given what the others are given."""
