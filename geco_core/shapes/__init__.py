"""Procedural objects: the training set of the micro systems, made from seeds and never stored."""
