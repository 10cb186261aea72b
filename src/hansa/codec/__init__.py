"""Rows of numbers <-> bytes. Every message's size is the size of its encoding."""

from hansa.codec.codec import Codec
from hansa.codec.dense import Dense

__all__ = ["Codec", "Dense"]
