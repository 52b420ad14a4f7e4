"""One module a task: its domains, its settings and its learner; the first line of its docstring is its summary."""
