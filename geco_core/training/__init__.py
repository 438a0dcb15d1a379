"""Training of the micro models from procedural seeds: a plain resumable loop, an example cache, and
one task per model.
"""
