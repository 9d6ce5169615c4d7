"""What is looked at before anybody waits in a queue."""
