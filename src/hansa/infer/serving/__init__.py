"""Models behind the Open Inference Protocol: one member, and many that answer as one."""
