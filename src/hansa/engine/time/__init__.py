"""Modelled time and energy: clocks, device profiles and traces, who is there, and batteries."""
