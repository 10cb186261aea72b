"""How a process comes by evidence of the hardware that it runs on; one file a way."""
