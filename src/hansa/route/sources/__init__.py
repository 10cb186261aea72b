"""Where tasks, a base and a pool of adapters come from: made here, or one's own."""
