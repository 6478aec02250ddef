"""What comes next is loaded ahead: habits, a gate against waste, and the calls in their hosts."""
