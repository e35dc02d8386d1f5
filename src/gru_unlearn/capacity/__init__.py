"""What a run needs of memory, and what a device has left."""
