"""Local work: batches, gradients, optimizers, budgets, and models measured.

``trainer.py`` trains the nodes of a block; ``evaluator.py`` measures their models; ``trial.py``
finds out, before anything starts, what a network does that would disturb either.
"""
