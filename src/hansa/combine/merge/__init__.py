"""Merging models of one origin into any size between one model and all of them (FlexMerge)."""
