"""Qt: the dock and its views. They show what the session holds and pass on what the user does."""
