"""From a network to the integers that private inference runs, and what they will cost."""
