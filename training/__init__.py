"""How the weights that the suite brings along were made: from generated samples, on two processor cores or on a GPU.

    python -m training.boxes          trains the network of the tracker `tiny` and writes weights and model card
    python -m training.boxes --help   other seeds, lengths, machines; an interrupted training goes on where it was

Nothing is fetched: samples are drawn from procedural textures and from pictures inside a package that is installed anyway
(`training.pictures` lists them with their licences).
"""
