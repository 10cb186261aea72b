"""Who gets which examples: partitions over nodes, cohorts of nodes, and what is held back."""
