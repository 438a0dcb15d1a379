"""Golden vectors of the original implementations, and the runner over them.

A vector holds inputs, small random weights and outputs.
"""
