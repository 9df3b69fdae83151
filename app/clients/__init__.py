"""What this application says to other servers."""
