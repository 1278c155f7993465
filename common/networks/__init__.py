"""Pure torch modules, a folder for each published network, with its official parameter names."""
