"""A language model's vocabulary, cut to what a task's text needs."""
