"""Meshes at the border of the library: checked, measured, drawn and written as binary glTF."""
