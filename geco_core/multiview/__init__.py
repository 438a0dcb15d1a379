"""Image to six views of one object."""
