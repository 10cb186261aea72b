"""Fairness audits: agents who query a black box within budgets, alone or together."""
