"""What is merged and how it is judged: the kind ``merge_tasks``."""
