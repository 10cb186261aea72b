"""The baselines of one-shot ensembles."""
