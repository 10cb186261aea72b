"""What a server keeps of its clients' updates while it trains, for who takes them back later."""

UPDATES = "server.updates"
"""The name in ``block.kept``: float32 [servers, slots, clients, P], what each client sent in every
so many rounds, 0 where it was not asked."""
