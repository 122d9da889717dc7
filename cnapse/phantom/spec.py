"""What a phantom is like."""

from __future__ import annotations

from dataclasses import dataclass

from cnapse.errors import ConfigError
from cnapse.geometry import Box, Resolution, Triple

__all__ = ["PhantomSpec"]


@dataclass(frozen=True, slots=True)
class PhantomSpec:
    """Parameters of a phantom; all of it is a function of them and of the voxel's place.

    Parameters
    ----------
    shape : (x, y, z)
        Voxels.
    resolution : (x, y, z)
        Voxel size in nm.
    voxel_offset : (x, y, z)
        First voxel. The tissue is fixed to the coordinates: another offset shows another place.
    seed : int
    gap_nm : float
        Width of the extracellular space between membranes; 0 lets cells touch.
    neurite_nm : float
        Mean distance of neighbouring neurites.
    synapse_density : float
        Share of the possible synapses that are made, 0 to 1.
    jitter_nm : float
        Displacement of sections against each other (standard deviation).
    noise : float
        Strength of the image's noise; 1 is like serial-section TEM.
    contrast_change : float
        How much contrast and brightness change from section to section.
    """

    shape: Triple
    resolution: Resolution = (4.0, 4.0, 50.0)
    voxel_offset: Triple = (0, 0, 0)
    seed: int = 0
    gap_nm: float = 16.0
    neurite_nm: float = 380.0
    synapse_density: float = 1.0
    jitter_nm: float = 3.0
    noise: float = 1.0
    contrast_change: float = 1.0

    def __post_init__(self) -> None:
        if min(self.shape) < 1:
            raise ConfigError(f"shape {self.shape}: a phantom has at least 1 voxel per axis")
        for name in ("gap_nm", "jitter_nm", "noise", "contrast_change"):
            if getattr(self, name) < 0:
                raise ConfigError(f"{name} = {getattr(self, name)} must not be negative")
        if not 0 <= self.synapse_density <= 1:
            raise ConfigError(f"synapse_density = {self.synapse_density} must be from 0 to 1")
        if self.neurite_nm < 4 * self.gap_nm or self.neurite_nm < 100:
            raise ConfigError(
                f"neurite_nm = {self.neurite_nm} must be at least 100 and four times gap_nm"
            )

    @property
    def bounds(self) -> Box:
        """The phantom's box."""
        return Box.from_shape(self.shape, self.resolution, self.voxel_offset)
