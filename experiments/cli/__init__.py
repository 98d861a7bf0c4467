"""What every command shares: composing a configuration, its errors and exit statuses, and cells of a sweep."""
