"""Scalars as ciphertexts of their own: rows of learning with errors, combined, shuffled, packed.

The way of the paper (Biswas et al., 2025): every number of a layer is a row that the server may
put anywhere, so that it can shuffle numbers and not channels only. :mod:`rows` takes rows out of
ring ciphertexts and combines them, :mod:`packing` brings rows back into ring ciphertexts.
"""
