"""What a model learns from, and how well it has: losses, metrics, a teacher."""
