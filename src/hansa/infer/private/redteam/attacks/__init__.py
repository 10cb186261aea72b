"""What clients do to learn a server's weights, a file each."""
