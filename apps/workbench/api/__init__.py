"""The REST subset, one module per group of methods. Handlers check the shape of a request and pass it on to the store."""
