"""Runs end to end: generate, report, training, and the command line."""
