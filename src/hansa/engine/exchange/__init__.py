"""What travels between nodes, and how: sends and inboxes, averages, sockets and frames.

``exchange.py`` is what an algorithm sees and ``inbox.py`` what it gets, ``terms.py`` how sums go
where messages are missing; ``asked.py`` says what scripts may ask for, ``faults.py`` what goes
wrong on purpose; ``post.py`` carries messages between sites.
"""
