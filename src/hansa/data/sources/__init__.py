"""Where examples come from: one file a data set, and one for each kind of a user's own."""
