"""Loading weights safely: no code of a file runs, digests are checked, every key accounted for."""
