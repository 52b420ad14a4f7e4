"""Studies on disk: reading and writing them, finding them, splitting them, preparing and caching them."""
