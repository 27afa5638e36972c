"""The operator's commands behind the Makefile. The same code works on AWS and on the local cloud."""
