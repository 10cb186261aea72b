"""Linear layers on ciphertexts: where numbers lie in polynomials, and what multiplies what."""
