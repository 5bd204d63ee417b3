"""Programs compiled for TPUs that are not here, and what the compiled code tells of memory and time."""
