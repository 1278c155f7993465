"""A small network of our own that finds a point, known from one picture, in a window of a later frame."""
