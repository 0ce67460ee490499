"""Loading models by name: hub, run directory, embedded weights, tiny architectures built on the spot."""
