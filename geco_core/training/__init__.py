"""Training of the micro models from procedural seeds.

A plain resumable loop, an example cache, and one task per model.
"""
