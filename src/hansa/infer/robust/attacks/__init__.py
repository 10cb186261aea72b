"""What liars answer instead of what their model says, a file each."""
