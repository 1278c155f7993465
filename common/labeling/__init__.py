"""The labeling assistant: a few labelled pictures in, a whole video or picture set labelled; what works best is measured."""
