"""Loading weights safely: safetensors only, digests checked, every key accounted for."""
