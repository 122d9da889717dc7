"""Who is postsynaptic: partner assignment by diffusion of neurotransmitter."""
