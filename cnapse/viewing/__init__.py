"""Pictures, annotations and scenes."""
