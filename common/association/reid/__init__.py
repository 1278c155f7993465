"""What objects look like, as vectors that are near for the same object."""
