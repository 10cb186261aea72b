"""Several runs: statistics over seeds, differences, what it took to get there, pictures."""
