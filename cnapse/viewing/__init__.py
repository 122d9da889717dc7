"""Pictures, annotations and scenes."""

from cnapse.viewing.state import read_state
from cnapse.viewing.viewed import ViewedAnnotation, ViewedLayer, ViewedState

__all__ = ["ViewedAnnotation", "ViewedLayer", "ViewedState", "read_state"]
