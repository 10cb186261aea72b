"""What every verb that serves over HTTP stands on: listening, draining, figures for monitoring."""
