"""What happens to one partition. Knows no engine, no cluster and no command line."""
