"""Merging algorithms: task vectors of a block in, one vector (and masks) out; a file an idea."""
