"""Real peers that tests run against, stand-ins where there is none to be had, and what the tests of several share."""
