"""How the camera moved from one picture to the next."""
