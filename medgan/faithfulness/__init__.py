"""What translations keep of their inputs: of a model, of label maps, and of converted images alone."""
