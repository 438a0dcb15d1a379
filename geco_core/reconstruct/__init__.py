"""Feed-forward reconstructors: six views in, triplanes out, then a mesh or a radiance field."""
