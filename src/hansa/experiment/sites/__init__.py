"""Runs of several owners without a coordinator: what one site is told, tells, does and keeps."""
