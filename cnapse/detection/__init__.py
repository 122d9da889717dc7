"""The network that finds presynaptic densities: weights, statistics, inference, training."""
