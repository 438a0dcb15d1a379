"""Golden vectors: inputs, small random weights and outputs of the original implementations, and the
runner over them.
"""
