"""Surfaces from scalar fields: FlexiCubes, marching cubes, sparse evaluation."""
