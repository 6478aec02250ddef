"""What a call costs, on the day it was made, in integer billionths of a US dollar."""
