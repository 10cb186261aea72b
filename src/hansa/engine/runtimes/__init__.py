"""Where blocks live, and what takes them through the rounds.

``runtime.py`` keeps all nodes in one block here, ``processes.py`` in blocks of worker processes;
``host.py`` is the loop of one block in either, ``checkpoint.py`` what it saves.
"""
