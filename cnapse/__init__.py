"""cnapse: chemical synapses in volume electron microscopy, and who talks to whom."""
