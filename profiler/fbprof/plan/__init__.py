"""What is timed: operators and networks of a space, chosen before the device is asked."""
