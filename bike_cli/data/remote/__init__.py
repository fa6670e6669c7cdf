"""Videos that are fetched before they are read: objects in stores, and members of tar files."""
