"""The commands, a module each: they parse, call, and say what to do next; whatever is heavy is imported inside."""
