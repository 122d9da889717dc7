"""From probability to numbered synapse objects and their measures."""
