"""Export: operators and networks of torch as model files that runtimes on devices read."""
