"""A small network of our own that finds an object, known from one drawn box, in a window of a later frame."""
