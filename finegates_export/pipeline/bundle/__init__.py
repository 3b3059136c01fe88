"""What is written into a bundle."""
