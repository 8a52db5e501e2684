"""§5, §6: offload, verification, and all changes of latest/. Nothing here collects or seals."""
