"""Which weights are published, under which licence: a TOML file for each family, read by `common.weights.entries`."""
