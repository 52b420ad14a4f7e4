"""The built-in digital phantom: subjects rendered from physics, with the truth known; it never stands for a patient."""
