"""What every other package here may use: options, tasks, files, commands, shapes, stamps."""
