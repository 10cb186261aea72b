"""The red team: what a client learns of a server's weights, attack by attack, in every mode.

A mode is worth what the attacks on it come to. Each is written down with where it was published,
runs on real ciphertexts of the same code that serves, and says what it is expected to recover; a
page that says less than they do would be wrong.
"""
