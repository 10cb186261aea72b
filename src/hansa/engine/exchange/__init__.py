"""What travels between nodes, and how: sends and inboxes, averages, sockets and frames.

``exchange.py`` is what an algorithm sees; ``sockets.py`` and ``mesh.py`` carry it between
processes.
"""
