"""What the halves of a base's layers cost by their widths."""
