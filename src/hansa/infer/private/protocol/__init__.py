"""Private inference over a network: frames, pinned TLS, sessions that survive either end's death.

What is in the frames is the sessions' business; here they are bytes. The server learns their sizes
and when they come, and these do not depend on what the client decrypts.
"""
