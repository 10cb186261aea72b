"""Both sides of private inference as they answer each other, without any transport.

A client yields requests and is sent replies; a server answers them. Everything random follows from
a secret of 32 bytes and what it is for, so that a side that was killed comes to the same bytes.
"""
