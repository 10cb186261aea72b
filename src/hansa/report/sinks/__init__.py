"""The sinks that come with hansa, each for a library that an extra brings."""
