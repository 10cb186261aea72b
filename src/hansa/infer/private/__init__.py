"""Safhire: the client keeps its data and the server its weights.

The server applies linear layers to ciphertexts, the client exact activations to what it decrypts
(Biswas et al., 2025, arXiv 2509.01253). A network is compiled to a :mod:`program` of integers,
which every mode asks in rounds.
"""
