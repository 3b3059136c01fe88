"""What every room may use: options, tasks, files, commands, shapes, stamps."""
