"""What one request of a chat model is, and what came back for it."""
