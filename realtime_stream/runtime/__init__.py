"""The home of threads and locks: inbox, dispatch, supervision, lifecycle."""
