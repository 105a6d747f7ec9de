"""The model that lessons run on: the embedded one and how it is had, the setup cell's choice, is this machine ready."""
