"""Host software."""
