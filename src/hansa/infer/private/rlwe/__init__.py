"""Ring-LWE encryption of integers whose holder can take sums and products by known integers.

Textbook ciphertexts (a, b = a·s + e + q·m/t) over Z_q[X] / (X^N + 1), two primes each, and no more
operations than private inference asks: :mod:`profiles` are the only parameters there are,
:mod:`ciphers` encrypts, computes, hides and decrypts, :mod:`noise` bounds what can go wrong.

Research grade: not audited, and written without branches or indices that depend on a secret, but
compiled code is not guaranteed to take constant time.
"""
